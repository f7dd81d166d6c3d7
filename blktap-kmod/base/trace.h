/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: a request's stations, and the vbd's states. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM blktap

#if !defined(BLKTAP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define BLKTAP_TRACE_H

#include <linux/tracepoint.h>

/* A station of one request. Sectors are 512 B. */
DECLARE_EVENT_CLASS(blktap_station,
	TP_PROTO(unsigned int domid, unsigned int devid, unsigned int slot, unsigned int op,
		 u64 sector, u32 bytes, int status),
	TP_ARGS(domid, devid, slot, op, sector, bytes, status),
	TP_STRUCT__entry(
		__field(unsigned int, domid)
		__field(unsigned int, devid)
		__field(unsigned int, slot)
		__field(unsigned int, op)
		__field(u64, sector)
		__field(u32, bytes)
		__field(int, status)
	),
	TP_fast_assign(
		__entry->domid = domid;
		__entry->devid = devid;
		__entry->slot = slot;
		__entry->op = op;
		__entry->sector = sector;
		__entry->bytes = bytes;
		__entry->status = status;
	),
	TP_printk("vbd-%u-%u slot %u op %u sector %llu bytes %u status %d",
		  __entry->domid, __entry->devid, __entry->slot, __entry->op,
		  (unsigned long long)__entry->sector, __entry->bytes, __entry->status)
);

#define BLKTAP_STATION(name)                                                              \
	DEFINE_EVENT(blktap_station, name,                                                \
		TP_PROTO(unsigned int domid, unsigned int devid, unsigned int slot,       \
			 unsigned int op, u64 sector, u32 bytes, int status),             \
		TP_ARGS(domid, devid, slot, op, sector, bytes, status))

BLKTAP_STATION(blktap_take);     /* off the guest's ring, judged valid  */
BLKTAP_STATION(blktap_announce); /* mapped, shown to tapdisk            */
BLKTAP_STATION(blktap_collect);  /* answered by tapdisk                 */
BLKTAP_STATION(blktap_bounce);   /* not served by the module itself     */
BLKTAP_STATION(blktap_answer);   /* unmapped, answered to the guest     */

TRACE_EVENT(blktap_state,
	TP_PROTO(unsigned int domid, unsigned int devid, int state),
	TP_ARGS(domid, devid, state),
	TP_STRUCT__entry(
		__field(unsigned int, domid)
		__field(unsigned int, devid)
		__field(int, state)
	),
	TP_fast_assign(
		__entry->domid = domid;
		__entry->devid = devid;
		__entry->state = state;
	),
	TP_printk("vbd-%u-%u state %d", __entry->domid, __entry->devid, __entry->state)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH base
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
