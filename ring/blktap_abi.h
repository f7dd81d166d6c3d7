/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The boundary between blktap.ko and tapdisk.
 *
 * One vbd is one character device, /dev/blktap/vbd-D-V (D: the frontend's
 * domain id, V: its device number), with one queue or several. Each open serves
 * one queue and has its own areas:
 *
 *     fd = open("/dev/blktap/vbd-D-V", O_RDWR | O_CLOEXEC)
 *     ioctl(fd, BLKTAP_IOC_ATTACH, &attach)    says what the disk is and which queue this is,
 *                                              learns the layout and how many queues there are
 *     mmap(fd, ...)                            the areas below
 *     loop: poll(fd); ioctl(fd, BLKTAP_IOC_RUN, flags)
 *     close(fd)                                detaches
 *
 * Queue 0 is attached first and says what the disk is; the others have to say
 * the same. The frontend chooses how many queues it uses when it connects, and
 * must not wait for more than those: attach all of them, idle ones cost nothing.
 *
 * Everything else happens in shared memory:
 *
 *     area          offset                   tapdisk    holds
 *     descriptors   BLKTAP_MAP_DESCRIPTORS   read-only  struct blktap_kernel_head, request ring,
 *                                                       segment table
 *     commands      BLKTAP_MAP_COMMANDS      read-write struct blktap_user_head, command ring
 *     window RW     BLKTAP_MAP_WINDOW_RW     read-write pages of guest reads (tapdisk fills them)
 *     window RO     BLKTAP_MAP_WINDOW_RO     read-only  pages of guest writes
 *     copies        BLKTAP_MAP_COPIES        read-write data of requests that are copied
 *
 * A guest request occupies a *slot* from the moment the module takes it off
 * the guest's ring until the guest has its answer, and a run of consecutive
 * entries of the segment table, one for each piece of its data. An entry names
 * a page of the window and the bytes in it; the pages of a run are consecutive
 * where the data is, but for those that are persistent. The pages are the
 * guest's own, visible only while tapdisk owns the slot: an access outside that
 * time is a SIGBUS, an O_DIRECT I/O to it ends with EFAULT. The windows must be
 * mapped as a whole with MAP_SHARED, and all calls must come from the process
 * that mapped them.
 *
 * Pages from blktap_attach.pages on are persistent grants: they lie in window
 * RW whatever the request does, stay visible between requests, and are in no
 * order. There are some only if BLKTAP_DISK_PERSISTENT was agreed.
 *
 * Pages from blktap_attach.window_pages on, as many as blktap_attach.pages, are
 * those of the area of copies, in its order: the module's own, where it copies
 * data from and to the guest instead of showing the guest's pages. Small requests
 * are copied if tapdisk allows it by blktap_attach.copy_bytes; then all pages of
 * the area are there, and stay visible between requests. Without it, pages are
 * there only for requests for which Xen has no room to map more, and only while
 * tapdisk owns their slots: an access outside that time is a SIGBUS. A tapdisk that
 * has not mapped the area gets no copies: then such requests wait.
 *
 * A tapdisk that is gone while its guest is connected, whatever ended it, leaves its
 * requests to the next one, if it said so at its attach (keep_ms): when nothing of it
 * can do any more I/O on the guest's pages, the next one may attach, and gets them
 * first, in their order, as BLKTAP_REQ_REPLAYED. I/O that does not use the guest's
 * pages must have ended before the last reference to the open is gone: register the
 * fd with each io_uring that does any. A request that three have not survived fails; one
 * whose last RUN was with HOLD has survived what it leaves.
 *
 * BLKTAP_IOC_RUN is the one doorbell of both directions. Unless something is
 * delegated, see below, the module works only inside it, in tapdisk's own
 * context: it takes tapdisk's commands,
 * withdraws the finished slots' pages, answers the guest, takes the guest's
 * new requests, maps them and puts them on the request ring. A poll() that
 * says readable means: call RUN. POLLHUP means: the vbd is gone, answer what is
 * owned, then exit.
 *
 * Delegation: tapdisk may hand the module ranges of the disk ahead of time
 * (BLKTAP_IOC_DELEGATE: "these sectors are that file at that offset"). Reads
 * and writes inside one such extent are carried out by the module, straight
 * over the guest's pages, and tapdisk never hears of them. All else is
 * announced as ever: what lies outside, what crosses an edge, flushes, barriers
 * and whatever comes while a barrier is under way, discards, and each request
 * that did not succeed as a whole, which tapdisk then carries out from its
 * start, and whose error is tapdisk's to tell.
 * Then requests may be announced at any time, and poll() says so.
 *
 * Submission: where tapdisk wants to hear of every request, but not to move its
 * data, it asks for BLKTAP_FEATURE_SUBMIT and answers with BLKTAP_CMD_SUBMIT:
 * "the data is in that file, at that offset". The module carries it out as if it
 * had been delegated, and what does not succeed as a whole is announced again,
 * without BLKTAP_REQ_SUBMITTABLE: that one tapdisk carries out itself.
 *
 * Neither side trusts the other's indices; entries are copied once and the
 * copy is validated. Fields named `reserved` are zero and checked. All numbers
 * have this machine's byte order.
 */
#ifndef RING_BLKTAP_ABI_H
#define RING_BLKTAP_ABI_H

#include "types.h"
#include <linux/ioctl.h>

/* Raised by any change that an older peer could misread. A mismatch refuses the attach. */
#define BLKTAP_ABI_VERSION 5

#define BLKTAP_MAGIC 0x70617462u /* "btap" */

/* Bounds that both sides may rely on when they size their tables. All of one queue. */
#define BLKTAP_DEPTH_MAX       256u  /* slots                                            */
#define BLKTAP_SEGS_MAX        256u  /* pieces of one request                            */
#define BLKTAP_PAGES           1024u /* pages for requests, entries of the segment table */
#define BLKTAP_PERSISTENT_MAX  1024u /* and for persistent grants, behind those          */
#define BLKTAP_WINDOW_PAGES    (BLKTAP_PAGES + BLKTAP_PERSISTENT_MAX)
#define BLKTAP_COMMANDS        256u  /* entries of the command ring                      */
#define BLKTAP_QUEUES_MAX      16u   /* queues of a vbd                                  */
#define BLKTAP_POLL_US_MAX     10000u /* of watching a ring in one go                    */
#define BLKTAP_KEEP_MS_MAX     3600000u /* of waiting for the next tapdisk               */

/*
 * Features. tapdisk asks for a set in blktap_attach.features; a bit that the
 * module does not know refuses the attach.
 *
 * BLKTAP_FEATURE_PREFAULT: the module makes a request's pages visible in the
 * window before it announces it. Without it they appear at the first access to
 * any of them (all pages of the slot at once), and a request that is never
 * looked at is never mapped. On: cheaper when every request is touched. Off:
 * cheaper when most are not.
 */
#define BLKTAP_FEATURE_PREFAULT  (1ull << 0)

/*
 * BLKTAP_FEATURE_SUBMIT: reads and writes may be announced as submittable, see
 * BLKTAP_REQ_SUBMITTABLE. A barrier is announced only when all before it has
 * been carried out, for tapdisk does not hear when that is.
 */
#define BLKTAP_FEATURE_SUBMIT    (1ull << 1)
#define BLKTAP_FEATURES_KNOWN    (BLKTAP_FEATURE_PREFAULT | BLKTAP_FEATURE_SUBMIT)

/* What the disk is: blktap_attach.disk_flags. */
#define BLKTAP_DISK_READ_ONLY  (1u << 0) /* writes are refused before tapdisk sees them        */
#define BLKTAP_DISK_CDROM      (1u << 1)
#define BLKTAP_DISK_REMOVABLE  (1u << 2)
#define BLKTAP_DISK_FLUSH      (1u << 3) /* offer flush and barrier: tapdisk makes data durable */
#define BLKTAP_DISK_BUFFERED   (1u << 4) /* the page cache copies: data is counted as copied    */
#define BLKTAP_DISK_DISCARD    (1u << 5) /* offer discard                                       */
#define BLKTAP_DISK_SECURE     (1u << 6) /* and the secure one, that leaves nothing to be read  */
#define BLKTAP_DISK_PERSISTENT (1u << 7) /* offer persistent grants                             */
#define BLKTAP_DISK_KNOWN      0xffu

/* Argument of BLKTAP_IOC_ATTACH. */
struct blktap_attach {
	/* in */
	__u32 abi;                  /* BLKTAP_ABI_VERSION                               */
	__u32 disk_flags;           /* BLKTAP_DISK_*                                    */
	__u64 features;             /* BLKTAP_FEATURE_*                                 */
	__u64 sectors;              /* capacity, units of 512 B; not zero; no less than
				       what a connected frontend knows already          */
	__u32 sector_size;          /* logical block, bytes: power of two, 512..4096    */
	__u32 physical_sector_size; /* bytes: power of two, >= sector_size              */
	__u32 discard_granularity;  /* bytes, whole logical blocks; 0 without DISCARD   */
	__u32 discard_alignment;    /* bytes, < discard_granularity                     */
	__u32 queue;                /* which one: < queues                              */
	__u32 copy_bytes;           /* requests of at most so many bytes may be copied,
				       which spares mapping them; 0: none               */
	__u32 poll_us;              /* before the guest is asked for an event, its ring may be
				       watched for so long, <= BLKTAP_POLL_US_MAX; 0: not   */
	__u32 keep_ms;              /* how long requests wait for the next tapdisk, if this one
				       is gone while the guest is connected,
				       <= BLKTAP_KEEP_MS_MAX; 0: they fail at once      */
	__u32 reserved_in[2];
	__u64 image_id[2];          /* of the image, whatever that is: the next tapdisk of a
				       connected guest has to say the same              */
	/* out */
	__u64 generation;           /* counts the attaches of queue 0, from 1           */
	__u64 window_bytes;         /* size of each window, for mmap                    */
	__u32 queues;               /* of this vbd, <= BLKTAP_QUEUES_MAX                */
	__u32 depth;                /* slots, <= BLKTAP_DEPTH_MAX, power of two         */
	__u32 max_segs;             /* pieces of a request, <= BLKTAP_SEGS_MAX          */
	__u32 pages;                /* for requests, <= BLKTAP_PAGES; also segments     */
	__u32 commands;             /* entries of the command ring, power of two        */
	__u32 requests_at;          /* descriptor area: bytes from its start            */
	__u32 segments_at;          /* descriptor area: bytes from its start            */
	__u32 commands_at;          /* command area: bytes from its start               */
	__u32 descriptors_bytes;    /* size of the descriptor area, for mmap            */
	__u32 disk_flags_out;       /* what was agreed: READ_ONLY may have been added, and
				       what the guest has not been offered taken away   */
	__u32 commands_bytes;       /* size of the command area, for mmap               */
	__u32 window_pages;         /* of a window: >= pages, <= BLKTAP_WINDOW_PAGES    */
};

/*
 * Attaches a queue, queue 0 first, for the life of the fd. 0, or -1 with errno:
 *   EPROTONOSUPPORT  another BLKTAP_ABI_VERSION
 *   EINVAL  what is said about the disk makes no sense, unknown flags or features, no such queue
 *   EBUSY   another fd has the queue (of queue 0: any queue), or this fd has one
 *   EPERM   queue 0 is another process's
 *   ESTALE  not the disk that the guest has seen, or that queue 0 has, or it offers less
 *   EAGAIN  I/O of the last tapdisk may still be under way; try again
 *   ENODEV  the vbd is gone
 *   ENOMEM
 */
#define BLKTAP_IOC_ATTACH _IOWR('b', 0x40, struct blktap_attach)

/*
 * The disk has grown to so many sectors of 512 B, whole logical blocks. To be
 * called through queue 0, after all queues can take requests for the new range;
 * the guest is told. 0, or -1 with errno:
 *   ENXIO   queue 0 is not attached through this fd
 *   EINVAL  not whole blocks, or smaller than the guest has seen
 *   ENODEV  the vbd is gone
 */
#define BLKTAP_IOC_RESIZE _IOW('b', 0x42, __u64)

/*
 * The doorbell. The argument is BLKTAP_RUN_* flags; the result is the number
 * of requests put on the request ring, or -1 with errno:
 *   ENXIO   nothing attached through this fd      EPERM  not the process that mapped the windows
 *   EPROTO  the command ring's index is a lie     EINTR  a signal; to be called again
 *   ENODEV  the vbd is gone; owned slots have been taken back
 *   EINVAL  unknown flags, or WAIT without ARM or with HOLD
 */
#define BLKTAP_IOC_RUN _IO('b', 0x41)

/*
 * Ask for events before returning: after this the caller may sleep in poll(),
 * and the next guest request wakes it. Without it the guest is not asked to
 * send events, which is right for a caller that will call again by itself.
 */
#define BLKTAP_RUN_ARM    (1u << 0)

/*
 * Take no new requests: they stay on the guest's ring. For a caller that is about to leave and
 * wants to answer what it owns, or what of it it can.
 */
#define BLKTAP_RUN_HOLD   (1u << 1)

/*
 * With ARM, not with HOLD: where poll() would have to sleep, do it in here, and then look again.
 * For a caller that has nothing else to wait for. It sleeps once at most, until there may be
 * something or BLKTAP_IOC_WAKE, and may return without any request.
 */
#define BLKTAP_RUN_WAIT   (1u << 2)

/*
 * What the guest was told to be written may be lost: a sync has failed that is the answer to no
 * request. To a guest that is connected it counts as a flush that failed: what it writes fails,
 * too, until its frontend has connected anew and another tapdisk serves it.
 */
#define BLKTAP_RUN_UNSYNCED (1u << 3)
#define BLKTAP_RUN_KNOWN \
	(BLKTAP_RUN_ARM | BLKTAP_RUN_HOLD | BLKTAP_RUN_WAIT | BLKTAP_RUN_UNSYNCED)

/*
 * Ends the sleep of BLKTAP_RUN_WAIT, now or the next one, and makes poll() say readable until the
 * next RUN. From any thread. 0, or -1 with errno: ENXIO, nothing is attached through this fd.
 */
#define BLKTAP_IOC_WAKE _IO('b', 0x45)

/*
 * An extent: what of the disk the module may serve by itself, and where it is. It may do so until
 * the extent is withdrawn or the fd through which queue 0 was attached is closed. To be called
 * through that fd. 0, or -1 with errno:
 *   ENXIO       queue 0 is not attached through this fd
 *   EINVAL      not whole blocks, outside of the disk, unknown flags; not a regular file or block
 *               device, not open with O_DIRECT, or open with O_APPEND
 *   EBADF       no such fd, or not open for what the flags say
 *   EROFS       WRITE, but the disk is read-only
 *   EOPNOTSUPP  the file system cannot say that it would have to wait: the module will not
 *   EEXIST      it overlaps another extent
 *   ENOSPC      BLKTAP_EXTENTS_MAX are there
 *   ENODEV      the vbd is gone
 */
#define BLKTAP_IOC_DELEGATE _IOW('b', 0x43, struct blktap_extent)

#define BLKTAP_EXTENTS_MAX     4096u      /* of a vbd  */
#define BLKTAP_EXTENT_READ     (1u << 0)
#define BLKTAP_EXTENT_WRITE    (1u << 1)
#define BLKTAP_EXTENT_KNOWN    0x3u

struct blktap_extent {
	__u64 sector;      /* the first, units of 512 B                              */
	__u64 sectors;     /* how many; not 0                                        */
	__u64 offset;      /* of its first byte in the file; whole logical blocks    */
	__s32 fd;
	__u32 flags;       /* BLKTAP_EXTENT_READ, WRITE or both: of what requests    */
	__u64 reserved[2];
};

/*
 * Withdraws, as a whole, each extent that has a sector of the range, and returns when no request
 * uses it any more. To be called through the fd that delegated. 0, or -1 with errno:
 *   ENXIO   queue 0 is not attached through this fd
 *   EINTR   a fatal signal; the extents are withdrawn, requests may still use them
 */
#define BLKTAP_IOC_WITHDRAW _IOW('b', 0x44, struct blktap_range)

struct blktap_range {
	__u64 sector;      /* units of 512 B */
	__u64 sectors;
};

/* mmap offsets. Far apart, so that each area can grow. */
#define BLKTAP_MAP_DESCRIPTORS  0x000000000ull
#define BLKTAP_MAP_COMMANDS     0x100000000ull
#define BLKTAP_MAP_WINDOW_RW    0x200000000ull
#define BLKTAP_MAP_WINDOW_RO    0x300000000ull
#define BLKTAP_MAP_COPIES       0x400000000ull /* `pages` pages */

/* Head of the descriptor area. The module writes it, tapdisk reads. */
struct blktap_kernel_head {
	__u32 magic;       /* BLKTAP_MAGIC                                        */
	__u32 abi;         /* BLKTAP_ABI_VERSION                                  */
	__u32 req_prod;    /* requests announced; free-running                    */
	__u32 cmd_cons;    /* commands taken; free-running                        */
	__u32 rejected;    /* commands refused since the attach; free-running     */
	__u32 state;       /* BLKTAP_STATE_*                                      */
	__u32 reserved[10];
};

#define BLKTAP_STATE_WAITING    0u /* no frontend on the other end yet, or not any more */
#define BLKTAP_STATE_CONNECTED  1u
#define BLKTAP_STATE_CLOSING    2u /* no new requests; answer what is owned             */
#define BLKTAP_STATE_GONE       3u /* the vbd is removed                                */

/* Head of the command area. tapdisk writes it, the module reads. */
struct blktap_user_head {
	__u32 cmd_prod;    /* commands produced; free-running */
	__u32 reserved[15];
};

/* What a request asks for: blktap_req.op. */
#define BLKTAP_OP_READ     0u /* fill the segments from the image                              */
#define BLKTAP_OP_WRITE    1u /* write the segments to the image                               */
#define BLKTAP_OP_FLUSH    2u /* make everything answered so far durable, then as WRITE if it
				 has data                                                      */
#define BLKTAP_OP_BARRIER  3u /* as FLUSH, but first wait for everything announced before, hold
				 everything announced after, and make its own data durable too.
				 Before and after are meant in this queue                       */
#define BLKTAP_OP_DISCARD  4u /* the content of the range is not needed any more                */

/* How: blktap_req.flags. */
#define BLKTAP_REQ_SECURE       (1u << 0) /* of a discard: nobody can read the content any more */
#define BLKTAP_REQ_SUBMITTABLE  (1u << 1) /* may be answered with BLKTAP_CMD_SUBMIT             */
#define BLKTAP_REQ_REPLAYED     (1u << 2) /* another tapdisk had it, and may have carried it out */

/* One announced request. Valid until tapdisk answers its slot. */
struct blktap_req {
	__u64 sector;    /* first sector, units of 512 B                                  */
	__u32 bytes;     /* sum over the segments; whole logical blocks; inside the disk  */
	__u32 generation;/* of the slot: echoed in the answer                             */
	__u16 slot;      /* echoed in the answer                                          */
	__u8 op;         /* BLKTAP_OP_*                                                   */
	__u8 flags;      /* BLKTAP_REQ_*                                                  */
	__u16 nr_segs;   /* entries of the segment table, from first_seg on               */
	__u16 first_seg;
	__u64 arrival;   /* order in which the queue's requests were taken                */
	__u64 discard_sectors; /* of a discard: length of the range, units of 512 B       */
	__u64 reserved[3];
};

/* One entry of the segment table: a piece of a request's data. */
struct blktap_seg {
	__u32 page;      /* of the window, < window_pages; or, from there on, of the copies */
	__u16 offset;    /* bytes into the page; multiple of the logical block            */
	__u16 length;    /* bytes, 512..4096; never across the end of the page            */
};

/* Verbs: blktap_cmd.verb. */
#define BLKTAP_CMD_COMPLETE  1u /* `slot` is done with `result`; tapdisk gives the slot back  */
#define BLKTAP_CMD_SUBMIT    2u /* the module shall do it: `slot` is all at `offset` of `fd`,
				   a file that could be delegated                        */

/* One command of tapdisk. What its verb does not use is 0. */
struct blktap_cmd {
	__u8 verb;        /* BLKTAP_CMD_*                                            */
	__u8 flags;       /* 0                                                       */
	__u16 slot;
	__u32 generation; /* as announced                                            */
	__s32 result;     /* COMPLETE: 0, or a negative errno (-1..-4095);
			     -EOPNOTSUPP is passed on to the guest as such           */
	__s32 fd;         /* SUBMIT                                                  */
	__u64 offset;     /* SUBMIT: bytes, whole logical blocks                     */
	__u64 reserved;
};

#endif
