/* What the device (replay.c) and the workloads (workload.c) share. */
#ifndef KRONO_BENCH_REPLAY_H
#define KRONO_BENCH_REPLAY_H

#include <stddef.h>
#include <stdint.h>

#define PORTS 2
#define SLOT 64 /* a cache line for each packet: its headers, and all of it if it is minimal */
#define PASSES_MAX 4096
#define MARKS_MAX 64
#define CABLE_PORT 9107 /* UDP: what kronods say to each other */
#define CABLE_FRAME_MAX 1534

/* ---- The control and figures page. measure.py has the same layout. ---- */

struct snapshot {
    uint64_t tsc, rx0, rx1, tx0, tx1, tx0_flood, tx1_flood, fresh;
};

struct figures {
    uint64_t ready;           /* the port is started and can be measured */
    uint64_t rx, tx;          /* as the program sees them: given to it, taken from it */
    uint64_t rx_bytes, tx_bytes;
    uint64_t rx_flood, tx_flood; /* of those, the ones with the flood's TOS */
    uint64_t no_mbuf;         /* polls that found the program's buffer pool empty */
    uint64_t passes;          /* how often the workload was sent from end to end */
    uint64_t fresh;           /* packets of sessions that never were before: churn */
    uint64_t unreflected;     /* sent packets that could not be sent back */
    uint64_t bad_checksums;   /* sent packets with a wrong checksum, if "verify" is on */
    uint64_t build_ns;        /* what making the workload took, within the program's start */
    uint64_t first_tsc;       /* when the first packet was asked for */
    uint64_t cable_tx, cable_tx_bytes; /* sent to the other end of the cable */
};

struct control {
    uint64_t magic, tsc_hz;
    volatile uint64_t run;          /* packets come while it is 1 */
    volatile uint64_t stop_after;   /* so many passes, then run becomes 0; 0: never */
    volatile uint64_t marks_wanted; /* a snapshot is taken at the next poll while this is */
    volatile uint64_t marks;        /* more than that */
    uint64_t unused[10];
    struct figures port[PORTS];
    struct snapshot pass[PASSES_MAX], mark[MARKS_MAX];
};
_Static_assert(sizeof(struct figures) == 128 && offsetof(struct control, pass) == 3 * 128,
               "measure.py reads this layout");
#define CONTROL_MAGIC 0x6b726f6e6f2d3031ull

/* ---- Workloads ---- */

#define TOS_FLOOD 4 /* tells a flood's packets from the others, before and behind the program */
#define FRAME_MIN 60
#define SERVER_ISN 0x5eed0000u /* the initial sequence number of every TCP server */

enum kind { KIND_UDP, KIND_TCP, KIND_SYN, KIND_IMIX };
enum flood { FLOOD_NONE, FLOOD_SYN, FLOOD_MALFORMED, FLOOD_COLLIDE, FLOOD_UNKNOWN };

/* What an environment variable KRONO_REPLAY_<port> asks for. */
struct spec {
    uint64_t flows, packets, fill, churn, churn_rate, shared, seed;
    double zipf;
    enum kind kind;
    enum flood flood;
    uint32_t pool, pool_size;
    int source, reflect, answer, verify;
    char cable[128]; /* the file; empty if there is none */
    uint64_t cable_end;
};

/* A frame whose addresses and source port are filled in for each packet. */
struct template {
    uint8_t slot[SLOT];
    uint32_t source;          /* the first subscriber's address */
    uint32_t ip_sum, l4_sum;  /* of everything that stays */
    unsigned l4_checksum_at;
};

struct part {
    const uint8_t *slots;
    uint64_t packets;
};

/* What a port gives: each part once, the last one again and again. */
struct workload {
    struct part parts[3];
    unsigned part_count;
    struct part flood;               /* none for a flood of ever new packets */
    struct template churn, flood_new;
};

void parse_spec(const char *text, struct spec *spec);
void build_workload(const struct spec *spec, unsigned port, struct workload *workload);
void write_fresh(uint8_t *frame, const struct template *template, uint64_t number);
void write_l4_checksum(uint8_t *ip);
int checksums_are_right(const uint8_t *frame, unsigned length);
void give_up(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* ---- The cable: see cable.c ---- */

struct cable;
struct cable *open_cable(const char *path);
/* Sends a frame to the other end; 0 if it is full. */
int cable_send(struct cable *cable, unsigned end, const uint8_t *bytes, uint16_t length);
uint64_t cable_waiting(const struct cable *cable, unsigned end);
/* Takes the next frame that waits, of which there must be one; its length. */
uint16_t cable_receive(struct cable *cable, unsigned end, uint8_t *bytes);

/* The last two bytes of a slot are the length of its frame. In a frame that is longer than that
 * they are payload, like any other. */
static inline uint16_t slot_length(const uint8_t *slot) {
    uint16_t length;
    __builtin_memcpy(&length, slot + SLOT - 2, 2);
    return length;
}

#endif
