/* SPDX-License-Identifier: GPL-2.0-only */
/* The counters of a vbd: one list, from which the enum, the names and sysfs are made. */
#ifndef BLKTAP_STATS_H
#define BLKTAP_STATS_H

#include <linux/device.h>
#include <linux/percpu.h>

#define BLKTAP_STATS(X)                                                           \
	X(requests_read)      /* valid requests taken off the guest's ring      */ \
	X(requests_write)                                                         \
	X(requests_flush)                                                         \
	X(requests_barrier)                                                       \
	X(requests_discard)                                                       \
	X(requests_indirect)  /* of those that read or write                    */ \
	X(requests_starved)   /* that had to wait for a slot or for pages       */ \
	X(bytes_read)         /* of requests answered with success              */ \
	X(bytes_written)                                                          \
	X(bytes_zero_copy)    /* that moved between guest and store uncopied    */ \
	X(bytes_copied)       /* that dom0 copied on their way                  */ \
	X(responses_ok)                                                           \
	X(responses_error)                                                        \
	X(requests_delegated) /* started by the module itself                   */ \
	X(requests_submitted) /* that tapdisk told it to start                  */ \
	X(requests_bounced)   /* of both, those that tapdisk got after all      */ \
	X(bad_requests)       /* refused by the decoder                         */ \
	X(bad_grants)         /* requests with a grant that Xen would not map   */ \
	X(lying_producer)     /* ring indices that cannot be                    */ \
	X(bad_commands)       /* tapdisk broke the protocol                     */ \
	X(stale_commands)     /* tapdisk answered a request taken back before   */ \
	X(requests_no_room)   /* for whose pages Xen had no room, each time     */ \
	X(requests_deferred)  /* of these, those that could not be copied       */ \
	X(requests_kept)      /* of a tapdisk that was gone, for the next one   */ \
	X(requests_replayed)  /* of these, those that one had had, announced    */ \
	X(kernel_map_ops)     /* grants mapped for the kernel                   */ \
	X(kernel_unmap_ops)                                                       \
	X(user_map_ops)       /* grants mapped into a window                    */ \
	X(user_unmap_ops)                                                         \
	X(persistent_hits)    /* segments whose grant was mapped already        */ \
	X(persistent_maps)    /* grants mapped to stay                          */ \
	X(persistent_unmaps)                                                      \
	X(requests_copied)    /* whose data was not mapped, but copied          */ \
	X(grant_copy_ops)     /* of data, and of segments of indirect requests  */ \
	X(hypercalls)         /* grant-table calls, each for many grants        */ \
	X(runs)               /* looks at the queue from tapdisk's doorbell     */ \
	X(guest_events)       /* received                                       */ \
	X(guest_notifies)     /* sent                                           */ \
	X(worker_runs)        /* of the one that serves delegated extents       */ \
	X(polls_found)        /* looks at a ring for a while: a request came,   */ \
	X(polls_missed)       /* nothing did                                    */ \
	X(tapdisk_wakeups)                                                        \
	X(busy_waits)         /* finished requests with pages in use for longer */ \
	X(window_faults)

enum blktap_stat {
#define BLKTAP_STAT_ENUM(name) BLKTAP_STAT_##name,
	BLKTAP_STATS(BLKTAP_STAT_ENUM)
#undef BLKTAP_STAT_ENUM
	BLKTAP_NR_STATS
};

/* Of one CPU, for the queues of a vbd count on many at a time. */
struct blktap_stats {
	s64 count[BLKTAP_NR_STATS];
};

struct blktap_vbd;

/* Adds n to counter `name` of a vbd, whose struct the caller knows. Any context. */
#define blktap_count(vbd, name, n) \
	this_cpu_add((vbd)->stats->count[BLKTAP_STAT_##name], (n))

extern const struct attribute_group blktap_stats_group;
extern const struct attribute_group *blktap_stats_stock_groups[];

/* Module load. */
int blktap_stats_init(void);
void blktap_stats_exit(void);

/* Process context: the vbd gets its counters, which are part of the totals from now on. */
int blktap_stats_enter(struct blktap_vbd *vbd);

/* Called when nothing counts on this vbd any more. Process context. */
void blktap_stats_leave(struct blktap_vbd *vbd);

#endif
