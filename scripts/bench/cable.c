/* A cable between two processes on this machine, for the frames that two kronods say to each other:
 * a ring each way in a mapped file. */
#include "replay.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LANE (1u << 12) /* frames on their way; a power of two */

struct cable_frame {
    uint16_t length;
    uint8_t bytes[CABLE_FRAME_MAX];
};

/* One writer, one reader. */
struct lane {
    _Alignas(128) uint64_t in;
    _Alignas(128) uint64_t out;
    _Alignas(128) struct cable_frame frames[LANE];
};

struct cable {
    struct lane lanes[2];
};

struct cable *open_cable(const char *path) {
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof(struct cable)))
        give_up("cannot make %s", path);
    void *page = mmap(NULL, sizeof(struct cable), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, file, 0);
    close(file);
    if (page == MAP_FAILED)
        give_up("cannot map %s", path);
    return page;
}

int cable_send(struct cable *cable, unsigned end, const uint8_t *bytes, uint16_t length) {
    struct lane *lane = &cable->lanes[end];
    uint64_t in = lane->in;
    if (length > CABLE_FRAME_MAX || in - __atomic_load_n(&lane->out, __ATOMIC_ACQUIRE) == LANE)
        return 0;
    struct cable_frame *frame = &lane->frames[in % LANE];
    frame->length = length;
    memcpy(frame->bytes, bytes, length);
    __atomic_store_n(&lane->in, in + 1, __ATOMIC_RELEASE);
    return 1;
}

uint64_t cable_waiting(const struct cable *cable, unsigned end) {
    const struct lane *lane = &cable->lanes[!end];
    return __atomic_load_n(&lane->in, __ATOMIC_ACQUIRE) - lane->out;
}

uint16_t cable_receive(struct cable *cable, unsigned end, uint8_t *bytes) {
    struct lane *lane = &cable->lanes[!end];
    const struct cable_frame *frame = &lane->frames[lane->out % LANE];
    uint16_t length = frame->length;
    memcpy(bytes, frame->bytes, length);
    __atomic_store_n(&lane->out, lane->out + 1, __ATOMIC_RELEASE);
    return length;
}
