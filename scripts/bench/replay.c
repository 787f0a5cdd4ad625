/* A device for benches, to be preloaded (LD_PRELOAD) into any DPDK program that is linked
 * dynamically and has a virtual device net_null0 or net_null1. When such a port starts, its receive
 * and transmit functions are replaced by those below:
 *
 *   - receiving gives the packets of a workload, endlessly, as fast as it is polled. Each lies in a
 *     cache line of an image in memory and is copied from there to the program's buffer. Of longer
 *     packets only that line is copied; the rest is zeros that lie in the buffer already, where a
 *     NIC would have put it without the CPU;
 *   - sending counts and frees, or sends packets back ("reflect"), or answers SYNs ("answer").
 *
 * Settings come from the environment:
 *
 *   KRONO_REPLAY_0, KRONO_REPLAY_1   what net_null0 and net_null1 do: settings with commas between
 *   KRONO_REPLAY_CTL                 a file for the control and figures page; see measure.py
 *
 *   flows=N      this port gives packets of so many flows     kind=udp|tcp|syn|imix
 *   packets=N    before it begins again (default: flows, at least 1,048,576)
 *   zipf=S       not all flows alike, but by Zipf's law       seed=N
 *   fill=N       first N of the flows, then the others, then all of them, again and again
 *   churn=N      behind the first pass every Nth packet is one of a session never seen before
 *   churn_rate=N the same, so many a second
 *   shared=N     N flows of this port share a mapping: their subscriber's address and port
 *   flood=syn|malformed|collide   behind the first pass every second packet is a hostile one
 *   flood=unknown,pool=PREFIX     as many packets for unknown public ports as the other port gives
 *   reflect      what is sent here comes back, with source and destination swapped
 *   answer       TCP SYNs that are sent here are answered with SYN-ACKs
 *   sink         what is sent here is gone, and nothing comes
 *   cable=FILE,end=0|1   a sink, but for UDP datagrams to port 9107: they come out of the other end
 *                of a cable to another process whose port has the same file
 *   verify       look at the checksums of all that is sent here
 *
 * By hand, to look at a program closely:
 *
 *   cc -O3 -march=native -shared -fPIC $(pkg-config --cflags libdpdk) -o libreplay.so replay.c \
 *       workload.c cable.c -lrte_ethdev -lrte_mbuf -lrte_mempool -lrte_eal -lm
 *   KRONO_REPLAY_CTL=/tmp/control KRONO_REPLAY_0=flows=65536,kind=udp KRONO_REPLAY_1=sink \
 *       LD_PRELOAD=$PWD/libreplay.so kronod --config ... &
 *   ./measure.py /tmp/control
 *
 * Only DPDK's public headers are used; rte_eth_fp_ops is public because inline functions use it. */
#define _GNU_SOURCE
#include "replay.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_memcpy.h>

#define RING (1u << 16) /* packets on their way back; a power of two */
#define PREFETCH_AHEAD (16 * SLOT)
#define CHURN_BEHIND 1024.0

static struct control *control;

struct device {
    struct figures *figures;
    struct rte_mempool *pool; /* of the receive queue */
    struct spec spec;
    struct workload workload;
    uint16_t port_id;
    int is_made;

    unsigned part;     /* of the workload, and the place in it */
    uint64_t position;
    uint64_t flooded;  /* flood packets given, and the place in those of the flood */
    uint64_t flood_position;
    int flood_turn;
    double churn_credit; /* packets of new sessions that are due */
    uint64_t churn_tsc, churn_done;
    uint64_t flood_base; /* flood=unknown: what the other port had given before */

    struct cable *cable;

    struct rte_mbuf **ring;
    uint32_t ring_in, ring_out;

    void *rx_queues[RTE_MAX_QUEUES_PER_PORT], *tx_queues[RTE_MAX_QUEUES_PER_PORT];
};

static struct device devices[PORTS];
static struct rte_mempool *pools[RTE_MAX_ETHPORTS];

/* ---- Receiving ---- */

static void snap(struct snapshot *snapshot) {
    const struct figures *a = &control->port[0], *b = &control->port[1];
    *snapshot = (struct snapshot){.tsc = rte_rdtsc(), .rx0 = a->rx, .rx1 = b->rx,
                                  .tx0 = a->tx, .tx1 = b->tx, .tx0_flood = a->tx_flood,
                                  .tx1_flood = b->tx_flood, .fresh = a->fresh};
}

/* measure.py wants a snapshot: it is taken here, between two polls, so that it is exact. */
static void take_mark(void) {
    if (control->marks < MARKS_MAX)
        snap(&control->mark[control->marks]);
    rte_smp_wmb();
    control->marks++;
}

static __rte_noinline void end_part(struct device *device) {
    struct figures *figures = device->figures;
    device->position = 0;
    if (device->part + 1 < device->workload.part_count)
        device->part++;
    if (figures->passes < PASSES_MAX)
        snap(&control->pass[figures->passes]);
    rte_smp_wmb();
    figures->passes++;
    if (figures->passes == control->stop_after)
        control->run = 0;
}

/* What a NIC's receive-side scaling is for: some number that depends on the five-tuple. */
static inline uint32_t flow_hash(const uint8_t *frame) {
    uint64_t addresses;
    uint32_t ports;
    memcpy(&addresses, frame + 26, 8);
    memcpy(&ports, frame + 34, 4);
    unsigned __int128 product =
        (unsigned __int128)(addresses ^ 0x243f6a8885a308d3) * (ports ^ 0x13198a2e03707345);
    return product >> 64 ^ product;
}

static inline void describe(struct rte_mbuf *mbuf, uint16_t port_id, const uint8_t *frame,
                            uint16_t length, uint64_t checksum_flags) {
    mbuf->data_len = length;
    mbuf->pkt_len = length;
    mbuf->port = port_id;
    mbuf->packet_type = 0;
    mbuf->hash.rss = flow_hash(frame);
    mbuf->ol_flags = checksum_flags | RTE_MBUF_F_RX_RSS_HASH;
}

#define CHECKSUMS_GOOD (RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD)

/* Puts the packet of a slot into a buffer; gives its length. */
static inline uint16_t give(const struct device *device, struct rte_mbuf *mbuf,
                            const uint8_t *slot, uint64_t checksum_flags) {
    uint16_t length = slot_length(slot);
    rte_mov64(rte_pktmbuf_mtod(mbuf, uint8_t *), slot);
    describe(mbuf, device->port_id, slot, length, checksum_flags);
    return length;
}

/* The next packets of the workload and nothing else. */
static inline __attribute__((always_inline)) uint64_t give_plain(struct device *device, struct rte_mbuf **mbufs, uint16_t count) {
    const struct part *part = &device->workload.parts[device->part];
    const uint8_t *slot = part->slots + device->position * SLOT;
    uint64_t bytes = 0;
    for (uint16_t i = 0; i < count; i++, slot += SLOT) {
        rte_prefetch0(slot + PREFETCH_AHEAD);
        bytes += give(device, mbufs[i], slot, CHECKSUMS_GOOD);
    }
    device->position += count;
    return bytes;
}

static uint16_t give_fresh(struct device *device, struct rte_mbuf *mbuf,
                           const struct template *template, uint64_t number) {
    uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
    write_fresh(frame, template, number);
    describe(mbuf, device->port_id, frame, slot_length(frame), CHECKSUMS_GOOD);
    return slot_length(frame);
}

/* A flood's checksums are nothing that a NIC would have found good. */
static uint16_t give_flood(struct device *device, struct rte_mbuf *mbuf) {
    const struct part *flood = &device->workload.flood;
    uint64_t number = device->flooded++;
    device->figures->rx_flood++;
    if (!flood->packets)
        return give_fresh(device, mbuf, &device->workload.flood_new, number);
    const uint8_t *slot = flood->slots + device->flood_position * SLOT;
    rte_prefetch0(slot + PREFETCH_AHEAD);
    if (++device->flood_position == flood->packets)
        device->flood_position = 0;
    return give(device, mbuf, slot, 0);
}

/* How many packets of new sessions are due among the next `count`: one in so many, or by the clock.
 * They are half of all at most: a program that cannot take as many a second gets fewer, and what it
 * is behind is forgiven but for a little. */
static uint64_t churn_due(struct device *device, uint16_t count) {
    const struct spec *spec = &device->spec;
    if (spec->churn) {
        device->churn_credit += (double)count / spec->churn;
    } else if (spec->churn_rate) {
        uint64_t now = rte_rdtsc(), before = device->churn_tsc ? device->churn_tsc : now;
        device->churn_credit += (double)(now - before) * spec->churn_rate / control->tsc_hz;
        device->churn_tsc = now;
    }
    device->churn_credit = RTE_MIN(device->churn_credit, CHURN_BEHIND);
    uint64_t due = RTE_MIN(device->churn_credit, count / 2);
    device->churn_credit -= due;
    return due;
}

/* The workload with as many hostile packets among its own. */
static __attribute__((noinline)) uint64_t give_flooded(struct device *device, struct rte_mbuf **mbufs, uint16_t count) {
    uint64_t bytes = 0;
    for (uint16_t i = 0; i < count; i++)
        bytes += (device->flood_turn ^= 1) ? give_flood(device, mbufs[i])
                                           : give_plain(device, mbufs + i, 1);
    return bytes;
}

/* The workload behind the packets of new sessions, which so cost it nothing. */
static __attribute__((noinline)) uint64_t give_churned(struct device *device, struct rte_mbuf **mbufs, uint16_t count) {
    uint64_t bytes = 0, due = churn_due(device, count);
    for (uint16_t i = 0; i < due; i++)
        bytes += give_fresh(device, mbufs[i], &device->workload.churn, device->churn_done++);
    device->figures->fresh += due;
    return bytes + give_plain(device, mbufs + due, count - due);
}

/* New sessions and floods begin when the sessions of the workload are there. */
static inline uint64_t fill(struct device *device, struct rte_mbuf **mbufs, uint16_t count) {
    const struct spec *spec = &device->spec;
    int has_flood = spec->flood != FLOOD_NONE, has_churn = spec->churn || spec->churn_rate;
    if (likely(!(has_flood || has_churn) || !device->figures->passes))
        return give_plain(device, mbufs, count);
    return has_flood ? give_flooded(device, mbufs, count) : give_churned(device, mbufs, count);
}

static inline int get_buffers(struct device *device, struct rte_mbuf **mbufs, uint16_t count) {
    if (likely(!rte_pktmbuf_alloc_bulk(device->pool, mbufs, count)))
        return 1;
    device->figures->no_mbuf++;
    return 0;
}

static uint16_t rx_workload(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    struct device *device = queue;
    struct figures *figures = device->figures;
    if (unlikely(control->marks_wanted > control->marks))
        take_mark();
    if (unlikely(!control->run))
        return 0;
    if (unlikely(!figures->first_tsc))
        figures->first_tsc = rte_rdtsc();
    uint64_t packets = device->workload.parts[device->part].packets;
    count = RTE_MIN(count, packets - device->position);
    if (!get_buffers(device, mbufs, count))
        return 0;
    figures->rx_bytes += fill(device, mbufs, count);
    figures->rx += count;
    if (unlikely(device->position == packets))
        end_part(device);
    return count;
}

/* As many as the other port has given since its first pass. */
static uint16_t rx_unknown(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    struct device *device = queue;
    struct figures *figures = device->figures;
    const struct figures *other = &control->port[device == &devices[0]];
    if (!other->passes || !control->run)
        return 0;
    if (!device->flood_base)
        device->flood_base = other->rx;
    count = RTE_MIN(count, other->rx - device->flood_base - device->flooded);
    if (!count || !get_buffers(device, mbufs, count))
        return 0;
    for (uint16_t i = 0; i < count; i++)
        figures->rx_bytes += give_flood(device, mbufs[i]);
    figures->rx += count;
    return count;
}

/* What comes back from the port's own sending side. */
static uint16_t rx_ring(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    struct device *device = queue;
    count = RTE_MIN(count, device->ring_in - device->ring_out);
    for (uint16_t i = 0; i < count; i++) {
        struct rte_mbuf *mbuf = device->ring[device->ring_out++ % RING];
        device->figures->rx_bytes += mbuf->pkt_len;
        mbuf->tx_offload = 0;
        describe(mbuf, device->port_id, rte_pktmbuf_mtod(mbuf, uint8_t *), mbuf->data_len,
                 CHECKSUMS_GOOD);
        mbufs[i] = mbuf;
    }
    device->figures->rx += count;
    return count;
}

/* What the other process has sent. */
static uint16_t rx_cable(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    struct device *device = queue;
    unsigned end = device->spec.cable_end;
    count = RTE_MIN(count, cable_waiting(device->cable, end));
    if (!count || !get_buffers(device, mbufs, count))
        return 0;
    for (uint16_t i = 0; i < count; i++) {
        uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
        uint16_t length = cable_receive(device->cable, end, frame);
        describe(mbufs[i], device->port_id, frame, length, CHECKSUMS_GOOD);
        device->figures->rx_bytes += length;
    }
    device->figures->rx += count;
    return count;
}

static uint16_t rx_nothing(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    (void)queue, (void)mbufs, (void)count;
    return 0;
}

/* ---- Sending ---- */

static void swap(uint8_t *a, uint8_t *b, size_t length) {
    uint8_t kept[8];
    memcpy(kept, a, length);
    memcpy(a, b, length);
    memcpy(b, kept, length);
}

/* A checksum when one 16-bit word of what it covers changes (RFC 1624, equation 3). */
static void update_checksum(uint8_t *checksum, uint16_t before, uint16_t after) {
    uint32_t sum = (uint16_t) ~(checksum[0] << 8 | checksum[1]);
    sum += (uint16_t)~before + after;
    sum = (sum >> 16) + (sum & 0xffff);
    sum = ~((sum >> 16) + (sum & 0xffff));
    checksum[0] = sum >> 8;
    checksum[1] = sum;
}

static inline int is_ipv4(const struct rte_mbuf *mbuf, const uint8_t *frame) {
    return mbuf->data_len >= FRAME_MIN && frame[12] == 8 && frame[13] == 0 && frame[14] == 0x45;
}

static inline int is_syn(const uint8_t *frame) {
    return frame[23] == IPPROTO_TCP && (frame[47] & 0x12) == 0x02;
}

static void make_syn_ack(uint8_t *ip) {
    uint8_t *tcp = ip + 20;
    uint32_t isn, server_isn = rte_cpu_to_be_32(SERVER_ISN);
    memcpy(&isn, tcp + 4, 4);
    isn = rte_cpu_to_be_32(rte_be_to_cpu_32(isn) + 1);
    memcpy(tcp + 4, &server_isn, 4);
    memcpy(tcp + 8, &isn, 4);
    tcp[13] = 0x12;
    write_l4_checksum(ip);
}

/* Turns a packet round: the answer to it. Swapping what a checksum covers leaves it right. */
static void turn_round(uint8_t *frame) {
    uint8_t *ip = frame + 14, *l4 = frame + 34;
    swap(frame, frame + 6, 6);
    swap(ip + 12, ip + 16, 4);
    swap(l4, l4 + 2, 2);
    update_checksum(ip + 10, ip[8] << 8 | ip[9], 64 << 8 | ip[9]);
    ip[8] = 64;
    if (is_syn(frame))
        make_syn_ack(ip);
    else if (ip[9] == IPPROTO_TCP)
        swap(l4 + 4, l4 + 8, 4);
}

static void send_back(struct device *device, struct rte_mbuf *mbuf) {
    device->ring[device->ring_in++ % RING] = mbuf;
}

static void note_checksums(struct device *device, struct rte_mbuf **mbufs, uint16_t count) {
    for (uint16_t i = 0; i < count; i++) {
        const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
        device->figures->bad_checksums += !checksums_are_right(frame, mbufs[i]->data_len);
    }
}

static void count_sent(struct device *device, struct rte_mbuf **mbufs, uint16_t count) {
    struct figures *figures = device->figures;
    uint64_t bytes = 0, flood = 0;
    for (uint16_t i = 0; i < count; i++) {
        bytes += mbufs[i]->pkt_len;
        flood += rte_pktmbuf_mtod(mbufs[i], uint8_t *)[15] == TOS_FLOOD;
    }
    figures->tx += count;
    figures->tx_bytes += bytes;
    figures->tx_flood += flood;
    if (unlikely(device->spec.verify))
        note_checksums(device, mbufs, count);
}

static uint16_t tx_sink(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    count_sent(queue, mbufs, count);
    rte_pktmbuf_free_bulk(mbufs, count);
    return count;
}

static inline int is_for_cable(const struct rte_mbuf *mbuf, const uint8_t *frame) {
    return is_ipv4(mbuf, frame) && frame[23] == IPPROTO_UDP &&
           (frame[36] << 8 | frame[37]) == CABLE_PORT;
}

static uint16_t tx_cable(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    struct device *device = queue;
    count_sent(device, mbufs, count);
    for (uint16_t i = 0; i < count; i++) {
        const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
        if (unlikely(is_for_cable(mbufs[i], frame)) &&
            cable_send(device->cable, device->spec.cable_end, frame, mbufs[i]->data_len)) {
            device->figures->cable_tx++;
            device->figures->cable_tx_bytes += mbufs[i]->data_len;
        }
    }
    rte_pktmbuf_free_bulk(mbufs, count);
    return count;
}

/* Sends back everything ("reflect") or SYNs only ("answer"); the rest is freed. */
static uint16_t tx_reflect(void *queue, struct rte_mbuf **mbufs, uint16_t count) {
    struct device *device = queue;
    count_sent(device, mbufs, count);
    for (uint16_t i = 0; i < count; i++) {
        uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
        int is_wanted = device->spec.reflect || is_syn(frame);
        if (likely(is_wanted && is_ipv4(mbufs[i], frame) &&
                   device->ring_in - device->ring_out < RING)) {
            turn_round(frame);
            send_back(device, mbufs[i]);
        } else {
            device->figures->unreflected += is_wanted;
            rte_pktmbuf_free(mbufs[i]);
        }
    }
    return count;
}

/* ---- Taking a port over ---- */

static void *next_function(const char *name) {
    void *function = dlsym(RTLD_NEXT, name);
    if (!function)
        give_up("this program has no %s: is DPDK linked dynamically?", name);
    return function;
}

static void open_control(void) {
    const char *path = getenv("KRONO_REPLAY_CTL");
    if (!path)
        give_up("KRONO_REPLAY_CTL names no file");
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, sizeof *control))
        give_up("cannot make %s", path);
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      file, 0);
    close(file);
    if (page == MAP_FAILED)
        give_up("cannot map %s", path);
    control = page;
    control->tsc_hz = rte_get_tsc_hz();
    control->magic = CONTROL_MAGIC;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void make(struct device *device, unsigned number, const char *settings) {
    uint64_t started = now_ns();
    if (!control)
        open_control();
    device->figures = &control->port[number];
    parse_spec(settings, &device->spec);
    build_workload(&device->spec, number, &device->workload);
    if (device->spec.cable[0])
        device->cable = open_cable(device->spec.cable);
    device->ring = calloc(RING, sizeof *device->ring);
    for (unsigned i = 0; i < RTE_MAX_QUEUES_PER_PORT; i++)
        device->rx_queues[i] = device->tx_queues[i] = device;
    device->figures->build_ns = now_ns() - started;
    device->is_made = 1;
}

static eth_rx_burst_t receiver(const struct device *device) {
    const struct spec *spec = &device->spec;
    if (spec->source)
        return rx_workload;
    if (spec->flood == FLOOD_UNKNOWN)
        return rx_unknown;
    if (device->cable)
        return rx_cable;
    return spec->reflect || spec->answer ? rx_ring : rx_nothing;
}

static void take_over(uint16_t port_id, unsigned number, const char *settings) {
    struct device *device = &devices[number];
    if (!device->is_made)
        make(device, number, settings);
    device->port_id = port_id;
    device->pool = pools[port_id];
    struct rte_eth_fp_ops *functions = &rte_eth_fp_ops[port_id];
    int sends_back = device->spec.reflect || device->spec.answer;
    functions->rx_pkt_burst = receiver(device);
    functions->rxq.data = device->rx_queues;
    functions->tx_pkt_burst = sends_back ? tx_reflect : device->cable ? tx_cable : tx_sink;
    functions->txq.data = device->tx_queues;
    device->figures->ready = 1;
}

/* The settings for a port, if it is one of net_null0 and net_null1 and there are any. */
static const char *settings_for(uint16_t port_id, unsigned *number) {
    char device[RTE_ETH_NAME_MAX_LEN], variable[32];
    if (rte_eth_dev_get_name_by_port(port_id, device) || sscanf(device, "net_null%u", number) != 1)
        return NULL;
    snprintf(variable, sizeof variable, "KRONO_REPLAY_%u", *number);
    return *number < PORTS ? getenv(variable) : NULL;
}

/* In the place of DPDK's own: learns where received packets are to be put. */
int rte_eth_rx_queue_setup(uint16_t port_id, uint16_t queue, uint16_t descriptors,
                           unsigned int socket, const struct rte_eth_rxconf *config,
                           struct rte_mempool *pool) {
    int (*next)(uint16_t, uint16_t, uint16_t, unsigned int, const struct rte_eth_rxconf *,
                struct rte_mempool *) = next_function("rte_eth_rx_queue_setup");
    if (queue == 0 && port_id < RTE_MAX_ETHPORTS)
        pools[port_id] = pool;
    return next(port_id, queue, descriptors, socket, config, pool);
}

/* In the place of DPDK's own, which fills in the port's functions: ours come after. */
int rte_eth_dev_start(uint16_t port_id) {
    int (*next)(uint16_t) = next_function("rte_eth_dev_start");
    int result = next(port_id);
    unsigned number;
    const char *settings = result ? NULL : settings_for(port_id, &number);
    if (settings)
        take_over(port_id, number, settings);
    return result;
}
