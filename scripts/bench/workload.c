/* The packets of the bench: who talks to whom, in which order, in which frames. Everything follows
 * from the numbers of flows and packets and from a seed, so that every program gets the same. */
#define _GNU_SOURCE
#include "replay.h"

#include <arpa/inet.h>
#include <math.h>
#include <nmmintrin.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FLOWS_PER_SUBSCRIBER 16
#define SUBSCRIBERS 0x64400002u   /* 100.64.0.2 and up: those of the workload */
#define CHURNERS 0x64600000u      /* 100.96.0.0/16: those who open ever new sessions */
#define FLOODERS 0x64700000u      /* 100.112.0.0/12: those who attack */
#define SERVERS 0xc6120000u       /* 198.18.0.0/16 */
#define HUGE_PAGE (2ul << 20)
#define PACKETS_MIN (1u << 20)    /* so that the device costs the same, however few the flows */

struct flow {
    uint32_t source, destination;
    uint16_t source_port, destination_port;
};

void give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("replay: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* ---- What is asked for ---- */

static int choice(const char *key, const char *value, const char *const names[], int count) {
    for (int i = 0; i < count; i++)
        if (!strcmp(value, names[i]))
            return i;
    give_up("%s=%s is not known", key, value);
}

static void parse_pool(const char *value, struct spec *spec) {
    char text[64];
    snprintf(text, sizeof text, "%s", value);
    char *slash = strchr(text, '/');
    struct in_addr address;
    if (!slash)
        give_up("pool=%s is not a prefix", value);
    *slash = 0;
    int length = atoi(slash + 1);
    if (inet_pton(AF_INET, text, &address) != 1 || length < 8 || length > 32)
        give_up("pool=%s is not a prefix", value);
    spec->pool = ntohl(address.s_addr);
    spec->pool_size = 1u << (32 - length);
}

static void parse_setting(const char *key, const char *value, struct spec *spec) {
    static const char *const kinds[] = {"udp", "tcp", "syn", "imix"};
    static const char *const floods[] = {"none", "syn", "malformed", "collide", "unknown"};
    if (!strcmp(key, "flows"))
        spec->flows = strtoull(value, NULL, 10);
    else if (!strcmp(key, "packets"))
        spec->packets = strtoull(value, NULL, 10);
    else if (!strcmp(key, "fill"))
        spec->fill = strtoull(value, NULL, 10);
    else if (!strcmp(key, "churn"))
        spec->churn = strtoull(value, NULL, 10);
    else if (!strcmp(key, "shared"))
        spec->shared = strtoull(value, NULL, 10);
    else if (!strcmp(key, "churn_rate"))
        spec->churn_rate = strtoull(value, NULL, 10);
    else if (!strcmp(key, "seed"))
        spec->seed = strtoull(value, NULL, 10);
    else if (!strcmp(key, "zipf"))
        spec->zipf = atof(value);
    else if (!strcmp(key, "kind"))
        spec->kind = choice(key, value, kinds, 4);
    else if (!strcmp(key, "flood"))
        spec->flood = choice(key, value, floods, 5);
    else if (!strcmp(key, "pool"))
        parse_pool(value, spec);
    else if (!strcmp(key, "cable"))
        snprintf(spec->cable, sizeof spec->cable, "%s", value);
    else if (!strcmp(key, "end"))
        spec->cable_end = strtoull(value, NULL, 10) & 1;
    else if (!strcmp(key, "reflect"))
        spec->reflect = 1;
    else if (!strcmp(key, "answer"))
        spec->answer = 1;
    else if (!strcmp(key, "verify"))
        spec->verify = 1;
    else if (strcmp(key, "sink"))
        give_up("setting \"%s\" is not known", key);
}

/* "flows=65536,kind=udp" and so on; "reflect", "answer" or "sink" for a port that gives nothing of
 * its own. */
void parse_spec(const char *text, struct spec *spec) {
    *spec = (struct spec){.seed = 42, .shared = 1};
    char *copy = strdup(text), *rest = copy, *setting;
    while ((setting = strsep(&rest, ","))) {
        char *value = strchr(setting, '=');
        if (value)
            *value++ = 0;
        if (*setting)
            parse_setting(setting, value ? value : "", spec);
    }
    free(copy);
    spec->source = spec->flows > 0;
    if (!spec->packets && spec->fill)
        spec->packets = spec->flows;
    if (!spec->packets)
        spec->packets = spec->flows > PACKETS_MIN ? spec->flows : PACKETS_MIN;
    if (spec->shared < 1 || spec->shared > 256)
        give_up("shared=%lu is not from 1 to 256", spec->shared);
    if (spec->fill && (spec->fill >= spec->flows || spec->packets != spec->flows))
        give_up("fill=%lu wants more flows than that, and a packet of each", spec->fill);
    if (spec->flows > UINT32_MAX || spec->packets > UINT32_MAX)
        give_up("there can be 2^32 flows and packets at most");
    if (spec->flood == FLOOD_UNKNOWN && !spec->pool_size)
        give_up("flood=unknown wants pool=PREFIX");
}

/* ---- Numbers ---- */

/* The finisher of SplitMix64: every bit of the result depends on every bit of `x`. */
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static uint64_t state;

static uint64_t random_number(void) {
    return mix(state += 0x9e3779b97f4a7c15ull);
}

/* Below `bound`, which is less than 2^32. */
static uint32_t random_below(uint64_t bound) {
    return (random_number() >> 32) * bound >> 32;
}

/* Zeroed memory in huge pages, if there are any to be had. */
static void *allocate(size_t bytes) {
    bytes = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
    if (memory != MAP_FAILED)
        return memory;
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED)
        give_up("no memory for %zu MB of packets", bytes >> 20);
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

static uint32_t *new_array(uint64_t count) {
    uint32_t *array = malloc(count * sizeof *array);
    if (!array)
        give_up("no memory for %lu numbers", count);
    return array;
}

/* ---- Checksums ---- */

static uint32_t sum(const uint8_t *bytes, unsigned length, uint32_t start) {
    for (; length > 1; bytes += 2, length -= 2)
        start += bytes[0] << 8 | bytes[1];
    return length ? start + (bytes[0] << 8) : start;
}

static uint32_t sum32(uint32_t word) {
    return (word >> 16) + (word & 0xffff);
}

static uint16_t folded(uint32_t sum) {
    sum = (sum >> 16) + (sum & 0xffff);
    return (sum >> 16) + (sum & 0xffff);
}

static void put16(uint8_t *at, uint16_t value) {
    at[0] = value >> 8;
    at[1] = value;
}

static void put32(uint8_t *at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value);
}

static uint16_t get16(const uint8_t *at) {
    return at[0] << 8 | at[1];
}

/* Where the checksum is in the transport header. */
static unsigned checksum_at(uint8_t protocol) {
    return protocol == IPPROTO_TCP ? 16 : 6;
}

static uint32_t pseudo_header_sum(const uint8_t *ip, unsigned l4_length) {
    return sum(ip + 12, 8, ip[9] + l4_length);
}

/* Whether the IP and transport checksums of an Ethernet frame with an IPv4 packet are right; what
 * is neither UDP nor TCP, is not looked into. */
int checksums_are_right(const uint8_t *frame, unsigned length) {
    const uint8_t *ip = frame + 14;
    if (length < 34 || get16(frame + 12) != 0x0800 || ip[0] != 0x45)
        return 1;
    if (folded(sum(ip, 20, 0)) != 0xffff)
        return 0;
    if (ip[9] != IPPROTO_UDP && ip[9] != IPPROTO_TCP)
        return 1;
    if (get16(ip + 2) < 20 || get16(ip + 2) + 14u > length)
        return 0;
    unsigned l4_length = get16(ip + 2) - 20;
    return folded(sum(ip + 20, l4_length, pseudo_header_sum(ip, l4_length))) == 0xffff;
}

static void write_ip_checksum(uint8_t *ip) {
    put16(ip + 10, 0);
    put16(ip + 10, ~folded(sum(ip, 20, 0)));
}

/* The slot has the headers; what lies behind it in a longer packet is zeros. */
void write_l4_checksum(uint8_t *ip) {
    unsigned l4_length = get16(ip + 2) - 20, at = checksum_at(ip[9]);
    unsigned in_slot = l4_length < SLOT - 34 ? l4_length : SLOT - 34;
    put16(ip + 20 + at, 0);
    uint16_t checksum = ~folded(sum(ip + 20, in_slot, pseudo_header_sum(ip, l4_length)));
    put16(ip + 20 + at, checksum ? checksum : 0xffff);
}

/* ---- Frames ---- */

/* So many flows have a port of their subscriber in common, and with it a mapping; each of them has
 * another server. The servers are many. */
static struct flow flow_of(uint64_t number, uint64_t shared) {
    static const uint16_t services[] = {443, 443, 80, 53};
    uint64_t port = number / shared, random = mix(number);
    uint64_t subscriber = port / FLOWS_PER_SUBSCRIBER, nth = port % FLOWS_PER_SUBSCRIBER;
    uint32_t host = shared > 1 ? number % shared << 8 | (random & 0xff) : random & 0xffff;
    return (struct flow){
        .source = SUBSCRIBERS + subscriber,
        .source_port = 1024 + nth * 4000 + mix(subscriber) % 4000,
        .destination = SERVERS | host,
        .destination_port = services[random >> 62],
    };
}

/* All that frames have in common; the port is the one that receives it. */
static void write_ethernet_and_ip(uint8_t *slot, unsigned port, unsigned length, uint8_t tos) {
    const uint8_t addresses[] = {2, 0, 0, 0, 0, 1 + port, 2, 0, 0, 0, 0, 0xfe - port};
    memset(slot, 0, SLOT);
    memcpy(slot, addresses, sizeof addresses);
    put16(slot + 12, 0x0800);
    uint8_t *ip = slot + 14;
    ip[0] = 0x45;
    ip[1] = tos;
    put16(ip + 2, length);
    ip[6] = 0x40; /* do not fragment */
    ip[8] = 64;
    uint16_t frame_length = length + 14 > FRAME_MIN ? length + 14 : FRAME_MIN;
    memcpy(slot + SLOT - 2, &frame_length, 2);
}

static void write_flow(uint8_t *slot, const struct flow *flow) {
    put32(slot + 26, flow->source);
    put32(slot + 30, flow->destination);
    put16(slot + 34, flow->source_port);
    put16(slot + 36, flow->destination_port);
}

static void finish(uint8_t *slot) {
    write_ip_checksum(slot + 14);
    write_l4_checksum(slot + 14);
}

static void write_udp(uint8_t *slot, unsigned port, const struct flow *flow, unsigned frame_length,
                      uint8_t tos) {
    write_ethernet_and_ip(slot, port, frame_length - 14, tos);
    slot[23] = IPPROTO_UDP;
    write_flow(slot, flow);
    put16(slot + 38, frame_length - 34);
    finish(slot);
}

/* A SYN, or the first segment that a client sends when the server's SYN-ACK has come. */
static void write_tcp(uint8_t *slot, unsigned port, const struct flow *flow, int is_syn,
                      uint8_t tos) {
    write_ethernet_and_ip(slot, port, is_syn ? 40 : FRAME_MIN - 14, tos);
    uint8_t *tcp = slot + 34;
    slot[23] = IPPROTO_TCP;
    write_flow(slot, flow);
    uint32_t isn = mix(flow->source ^ (uint64_t)flow->source_port << 32);
    put32(tcp + 4, is_syn ? isn : isn + 1);
    put32(tcp + 8, is_syn ? 0 : SERVER_ISN + 1);
    tcp[12] = 5 << 4;
    tcp[13] = is_syn ? 0x02 : 0x18; /* SYN, or ACK and PSH */
    put16(tcp + 14, 0xffff);
    finish(slot);
}

/* Of 12 packets 7 are minimal, 4 have 590 and one has 1,514 bytes. */
static unsigned imix_length(void) {
    uint32_t die = random_below(12);
    return die < 7 ? FRAME_MIN : die < 11 ? 590 : 1514;
}

static void write_packet(uint8_t *slot, const struct spec *spec, uint32_t number) {
    struct flow flow = flow_of(number, spec->shared);
    switch (spec->kind) {
    case KIND_UDP: write_udp(slot, 0, &flow, FRAME_MIN, 0); break;
    case KIND_IMIX: write_udp(slot, 0, &flow, imix_length(), 0); break;
    case KIND_TCP: write_tcp(slot, 0, &flow, 0, 0); break;
    case KIND_SYN: write_tcp(slot, 0, &flow, 1, 0); break;
    }
}

/* ---- The order of flows ---- */

static void shuffle(uint32_t *numbers, uint64_t count) {
    for (uint64_t i = count; i > 1; i--) {
        uint32_t other = random_below(i), number = numbers[i - 1];
        numbers[i - 1] = numbers[other];
        numbers[other] = number;
    }
}

/* The flows from `first` up, `count` of them, in random order. */
static void permutation(uint32_t *numbers, uint32_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        numbers[i] = first + i;
    shuffle(numbers, count);
}

/* Every flow as often as any other, never twice before all others had their turn. */
static void uniform_order(const struct spec *spec, uint32_t *order) {
    for (uint64_t at = 0; at < spec->packets; at += spec->flows) {
        uint64_t left = spec->packets - at;
        if (left >= spec->flows) {
            permutation(order + at, 0, spec->flows);
        } else {
            uint32_t *all = new_array(spec->flows);
            permutation(all, 0, spec->flows);
            memcpy(order + at, all, left * sizeof *all);
            free(all);
        }
    }
}

/* The nth of the flows, ranked at random, is drawn with a probability that goes with n^-s: by
 * inversion of the exact distribution function. */
static void zipf_order(const struct spec *spec, uint32_t *order) {
    double *upto = malloc(spec->flows * sizeof *upto), total = 0;
    uint32_t *ranked = new_array(spec->flows);
    if (!upto)
        give_up("no memory for %lu flows", spec->flows);
    permutation(ranked, 0, spec->flows);
    for (uint64_t i = 0; i < spec->flows; i++)
        upto[i] = total += pow(i + 1, -spec->zipf);
    for (uint64_t at = 0; at < spec->packets; at++) {
        double drawn = (random_number() >> 11) * 0x1p-53 * total;
        uint64_t low = 0, high = spec->flows - 1;
        while (low < high) {
            uint64_t middle = (low + high) / 2;
            if (upto[middle] <= drawn)
                low = middle + 1;
            else
                high = middle;
        }
        order[at] = ranked[low];
    }
    free(upto);
    free(ranked);
}

static void make_order(const struct spec *spec, uint32_t *order) {
    if (spec->fill) {
        permutation(order, 0, spec->fill);
        permutation(order + spec->fill, spec->fill, spec->packets - spec->fill);
    } else if (spec->zipf > 0) {
        zipf_order(spec, order);
    } else {
        uniform_order(spec, order);
    }
}

/* ---- The workload ---- */

static void add_part(struct workload *workload, const uint8_t *slots, uint64_t packets) {
    workload->parts[workload->part_count++] = (struct part){slots, packets};
}

/* A SYN of every flow: behind them comes what the servers answer, see "answer" in replay.c. */
static void build_opening(const struct spec *spec, struct workload *workload) {
    uint8_t *slots = allocate(spec->flows * SLOT);
    for (uint64_t i = 0; i < spec->flows; i++) {
        struct flow flow = flow_of(i, spec->shared);
        write_tcp(slots + i * SLOT, 0, &flow, 1, 0);
    }
    add_part(workload, slots, spec->flows);
}

static void build_replay(const struct spec *spec, struct workload *workload) {
    uint8_t *slots = allocate(spec->packets * SLOT);
    uint32_t *order = new_array(spec->packets);
    make_order(spec, order);
    for (uint64_t i = 0; i < spec->packets; i++)
        write_packet(slots + i * SLOT, spec, order[i]);
    free(order);
    if (spec->fill) {
        add_part(workload, slots, spec->fill);
        add_part(workload, slots + spec->fill * SLOT, spec->packets - spec->fill);
    }
    add_part(workload, slots, spec->packets);
}

/* ---- Packets of sessions that never were before ---- */

/* The template's frame has zeros where the packets differ. */
static void make_template(struct template *template, uint32_t source, int is_tcp, uint8_t tos) {
    const struct flow nobody = {.destination_port = 443};
    if (is_tcp)
        write_tcp(template->slot, 0, &nobody, 1, tos);
    else
        write_udp(template->slot, 0, &nobody, FRAME_MIN, tos);
    uint8_t *ip = template->slot + 14;
    template->source = source;
    template->l4_checksum_at = 34 + checksum_at(ip[9]);
    put16(ip + 10, 0);
    put16(template->slot + template->l4_checksum_at, 0);
    unsigned l4_length = get16(ip + 2) - 20;
    template->ip_sum = sum(ip, 20, 0);
    template->l4_sum = sum(ip + 20, l4_length, pseudo_header_sum(ip, l4_length));
}

/* Never the same twice: 2^16 subscribers, then their ports, then the servers. */
void write_fresh(uint8_t *frame, const struct template *template, uint64_t number) {
    uint32_t source = template->source + (number & 0xffff);
    uint16_t source_port = 1024 + (number >> 16) % 64000;
    uint32_t destination = SERVERS | ((number >> 16) / 64000 + (mix(number & 0xffff) & 0xfff));
    uint32_t addresses = sum32(source) + sum32(destination);
    memcpy(frame, template->slot, SLOT);
    put32(frame + 26, source);
    put32(frame + 30, destination);
    put16(frame + 34, source_port);
    put16(frame + 24, ~folded(template->ip_sum + addresses));
    uint16_t checksum = ~folded(template->l4_sum + addresses + source_port);
    put16(frame + template->l4_checksum_at, checksum ? checksum : 0xffff);
}

/* ---- Floods ---- */

static struct part new_flood(uint64_t packets, uint8_t **slots) {
    *slots = allocate(packets * SLOT);
    return (struct part){*slots, packets};
}

static struct flow random_attacker(void) {
    return (struct flow){
        .source = FLOODERS + random_below(1 << 16),
        .source_port = 1024 + random_below(64000),
        .destination = SERVERS | random_below(1 << 16),
        .destination_port = 443,
    };
}

/* One defect each, all else is right. */
static void spoil(uint8_t *slot, unsigned defect) {
    uint8_t *ip = slot + 14, *udp = slot + 34;
    uint16_t length = 20;
    switch (defect) {
    case 0: ip[10] ^= 0x55; return;                           /* IP checksum */
    case 1: memcpy(slot + SLOT - 2, &length, 2); return;      /* frame ends in the IP header */
    case 2: put16(slot + 12, 0x88b5); return;                 /* unknown EtherType */
    case 3: put16(udp + 4, 4); return;                        /* UDP length below its header */
    case 4: put16(udp + 4, 1000); return;                     /* UDP length beyond the packet */
    case 5: put16(udp, 0); return;                            /* port 0 */
    case 6: ip[0] = 0x44; break;                              /* header length too small */
    case 7: ip[0] = 0x4f; break;                              /* header longer than the packet */
    case 8: ip[0] = 0x65; break;                              /* version 6 as EtherType 0800 */
    case 9: put16(ip + 2, 1400); break;                       /* total length beyond the frame */
    case 10: put16(ip + 2, 10); break;                        /* total length below the header */
    case 11: put16(ip + 6, 0x2000); break;                    /* first fragment */
    case 12: put16(ip + 6, 0x00b9); break;                    /* last fragment */
    default: ip[9] = 199; break;                              /* unknown protocol */
    }
    write_ip_checksum(ip);
}
#define DEFECTS 14

static struct part malformed_flood(void) {
    uint8_t *slots;
    struct part flood = new_flood(4096, &slots);
    for (uint64_t i = 0; i < flood.packets; i++) {
        struct flow flow = random_attacker();
        write_udp(slots + i * SLOT, 0, &flow, FRAME_MIN, TOS_FLOOD);
        spoil(slots + i * SLOT, i % DEFECTS);
    }
    return flood;
}

static uint64_t folded_multiply(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return product >> 64 ^ product;
}

/* krono's hash (krono-core/src/hash.rs) of a UDP mapping's key with a seed of zeros: the most that
 * an attacker can know. The kronod that is attacked has drawn a seed of its own. */
static uint32_t krono_hash(const struct flow *flow) {
    const uint64_t k0 = 0x243f6a8885a308d3, k1 = 0x13198a2e03707345;
    const uint64_t k2 = 0xa4093822299f31d1, k3 = 0x082efa98ec4e6c89;
    const uint64_t udp = 0, mapping = 1;
    uint64_t a = (uint64_t)flow->source << 32;
    uint64_t b = (uint64_t)flow->source_port << 32 | udp << 8 | mapping;
    return folded_multiply(folded_multiply(a ^ k0, b ^ k1) ^ k2, k3) >> 32;
}

/* The published cuckoo++ hashes the five-tuple by CRC32C, without a key. */
static uint32_t crc_hash(const struct flow *flow) {
    uint64_t crc = _mm_crc32_u64(~0u, (uint64_t)flow->source << 32 | flow->destination);
    uint64_t ports = (uint64_t)flow->source_port << 16 | flow->destination_port;
    return _mm_crc32_u64(crc, ports << 8 | IPPROTO_UDP);
}

/* Flows whose hashes agree in 12 bits, found by trying: 8,192 flows that want the same 1/4,096 of
 * the buckets, several times what fits there. Half of them for either hash. */
static struct part collide_flood(void) {
    uint8_t *slots;
    struct part flood = new_flood(16384, &slots);
    uint64_t found[2] = {0, 0}, half = flood.packets / 2, at = 0;
    while (at < flood.packets) {
        struct flow flow = random_attacker();
        int is_krono = krono_hash(&flow) >> 20 == 0x5a5, is_crc = (crc_hash(&flow) & 0xfff) == 0;
        if ((is_krono && found[0]++ < half) || (is_crc && found[1]++ < half))
            write_udp(slots + at++ * SLOT, 0, &flow, FRAME_MIN, TOS_FLOOD);
    }
    return flood;
}

/* From the Internet to public ports of which nobody has said anything: the sender's port is none
 * that any flow talks to. */
static struct part unknown_flood(const struct spec *spec) {
    uint8_t *slots;
    struct part flood = new_flood(1 << 20, &slots);
    for (uint64_t i = 0; i < flood.packets; i++) {
        struct flow flow = {
            .source = SERVERS | random_below(1 << 16),
            .source_port = 2000 + random_below(60000),
            .destination = spec->pool + random_below(spec->pool_size),
            .destination_port = 1024 + random_below(64512),
        };
        write_udp(slots + i * SLOT, 1, &flow, FRAME_MIN, TOS_FLOOD);
    }
    return flood;
}

static void build_flood(const struct spec *spec, struct workload *workload) {
    switch (spec->flood) {
    case FLOOD_NONE: break;
    case FLOOD_SYN: make_template(&workload->flood_new, FLOODERS, 1, TOS_FLOOD); break;
    case FLOOD_MALFORMED: workload->flood = malformed_flood(); break;
    case FLOOD_COLLIDE: workload->flood = collide_flood(); break;
    case FLOOD_UNKNOWN: workload->flood = unknown_flood(spec); break;
    }
}

void build_workload(const struct spec *spec, unsigned port, struct workload *workload) {
    *workload = (struct workload){0};
    state = mix(spec->seed + port);
    if (spec->source && spec->kind == KIND_TCP)
        build_opening(spec, workload);
    if (spec->source)
        build_replay(spec, workload);
    make_template(&workload->churn, CHURNERS, 0, 0);
    build_flood(spec, workload);
}
