/* Checks the packets of the bench before anything is measured with them: exits 1 with a sentence if
 * they are not what they should be. */
#include "replay.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct workload made(const char *settings, unsigned port) {
    struct spec spec;
    struct workload workload;
    parse_spec(settings, &spec);
    build_workload(&spec, port, &workload);
    return workload;
}

/* A subscriber's address and port; flows that have them in common share a mapping. */
static uint64_t mapping_of_slot(const uint8_t *slot) {
    uint64_t mapping = 0;
    memcpy(&mapping, slot + 26, 4);
    memcpy((uint8_t *)&mapping + 4, slot + 34, 2);
    return mapping;
}

static uint64_t flow_of_slot(const uint8_t *slot) {
    uint16_t destination;
    memcpy(&destination, slot + 32, 2);
    return mapping_of_slot(slot) << 16 | destination;
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t *sorted(const struct part *part, uint64_t (*of_slot)(const uint8_t *)) {
    uint64_t *flows = malloc(part->packets * sizeof *flows);
    for (uint64_t i = 0; i < part->packets; i++)
        flows[i] = of_slot(part->slots + i * SLOT);
    qsort(flows, part->packets, sizeof *flows, compare);
    return flows;
}

static uint64_t distinct(const struct part *part, uint64_t (*of_slot)(const uint8_t *)) {
    uint64_t *flows = sorted(part, of_slot), count = 1;
    for (uint64_t i = 1; i < part->packets; i++)
        count += flows[i] != flows[i - 1];
    free(flows);
    return count;
}

/* How often the flow comes that comes most. */
static uint64_t most_frequent(const struct part *part) {
    uint64_t *flows = sorted(part, flow_of_slot), most = 0, run = 1;
    for (uint64_t i = 1; i < part->packets; i++) {
        run = flows[i] == flows[i - 1] ? run + 1 : 1;
        most = run > most ? run : most;
    }
    free(flows);
    return most;
}

static void expect(int holds, const char *settings, const char *what) {
    if (!holds)
        give_up("%s: %s", settings, what);
}

static void checksums_hold(const char *settings, unsigned port) {
    struct workload workload = made(settings, port);
    static uint8_t frame[2048];
    for (unsigned part = 0; part < workload.part_count; part++)
        for (uint64_t i = 0; i < workload.parts[part].packets; i++) {
            const uint8_t *slot = workload.parts[part].slots + i * SLOT;
            memcpy(frame, slot, SLOT);
            expect(checksums_are_right(frame, slot_length(slot)), settings, "a wrong checksum");
        }
}

static void flows_are_as_many(const char *settings, unsigned part, uint64_t packets,
                              uint64_t flows) {
    struct workload workload = made(settings, 0);
    expect(workload.parts[part].packets == packets, settings, "not so many packets");
    expect(distinct(&workload.parts[part], flow_of_slot) == flows, settings, "not so many flows");
}

static void flows_share_mappings(void) {
    const char *settings = "flows=65536,kind=udp,shared=16";
    struct workload workload = made(settings, 0);
    const struct part *part = &workload.parts[0];
    expect(distinct(part, flow_of_slot) == 65536, settings, "not so many flows");
    expect(distinct(part, mapping_of_slot) == 4096, settings, "not so many mappings");
}

static void zipf_is_zipf(void) {
    const char *settings = "flows=1000,kind=udp,zipf=1.0";
    struct workload workload = made(settings, 0);
    double harmonic = 0;
    for (int i = 1; i <= 1000; i++)
        harmonic += 1.0 / i;
    double share = (double)most_frequent(&workload.parts[0]) / workload.parts[0].packets;
    expect(fabs(share * harmonic - 1) < 0.02, settings, "the first flow has not its share");
}

static void fresh_packets_are_new(const char *settings, int is_flood) {
    enum { COUNT = 1 << 20 };
    struct workload workload = made(settings, 0);
    uint8_t *slots = malloc((size_t)COUNT * SLOT);
    for (uint64_t i = 0; i < COUNT; i++) {
        write_fresh(slots + i * SLOT, is_flood ? &workload.flood_new : &workload.churn, i);
        expect(checksums_are_right(slots + i * SLOT, FRAME_MIN), settings, "a wrong checksum");
    }
    struct part part = {slots, COUNT};
    expect(distinct(&part, flow_of_slot) == COUNT, settings, "a new session comes twice");
    free(slots);
}

static void unknown_ports_are_of_the_pool(void) {
    const char *settings = "flood=unknown,pool=203.0.113.64/26";
    struct workload workload = made(settings, 1);
    for (uint64_t i = 0; i < workload.flood.packets; i++) {
        const uint8_t *slot = workload.flood.slots + i * SLOT;
        expect(checksums_are_right(slot, FRAME_MIN), settings, "a wrong checksum");
        expect(!memcmp(slot + 30, "\xcb\x00\x71", 3) && slot[33] >> 6 == 1, settings,
               "a destination outside of the pool");
        expect(slot[15] == TOS_FLOOD, settings, "not marked as a flood's");
    }
}

int main(void) {
    checksums_hold("flows=5000,kind=udp", 0);
    checksums_hold("flows=5000,kind=tcp", 0);
    checksums_hold("flows=5000,kind=syn", 0);
    checksums_hold("flows=5000,kind=imix", 0);
    flows_are_as_many("flows=70000,kind=udp", 0, 1 << 20, 70000);
    flows_are_as_many("flows=1048576,kind=udp", 0, 1 << 20, 1 << 20);
    flows_are_as_many("flows=5000,kind=tcp", 0, 5000, 5000);
    flows_are_as_many("flows=100000,kind=udp,fill=80000", 0, 80000, 80000);
    flows_are_as_many("flows=100000,kind=udp,fill=80000", 1, 20000, 20000);
    flows_are_as_many("flows=100000,kind=udp,fill=80000", 2, 100000, 100000);
    flows_share_mappings();
    zipf_is_zipf();
    fresh_packets_are_new("flows=1,packets=1,churn=2", 0);
    fresh_packets_are_new("flows=1,packets=1,flood=syn", 1);
    unknown_ports_are_of_the_pool();
    return 0;
}
