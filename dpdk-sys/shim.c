#include "shim.h"

uint16_t shim_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t shim_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void shim_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

/* The words of an mbuf as one number: data_off, refcnt, nb_segs and port, the first lowest. */
typedef uint64_t __attribute__((may_alias)) mbuf_counts;

/* Fetches a line that is to be written, away from whoever has it. */
static inline void prefetch_to_write(const void *line)
{
#ifdef RTE_ARCH_X86
	/* What the compiler has for it becomes this only where it may assume a newer CPU; others take it
	 * for nothing. */
	asm volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
	__builtin_prefetch(line, 1, 3);
#endif
}

/*
 * rte_pktmbuf_alloc_bulk in a third of its stores. A buffer in a pool has no second segment, and what
 * lies in its second line, or says of VLANs and offloads, means nothing while no flag is set. Lines are
 * fetched first, since another lcore may have freed the buffers.
 */
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	int status = rte_mempool_get_bulk(pool, (void **)mbufs, count);
	unsigned int i;

	if (unlikely(status != 0))
		return status;
	for (i = 0; i < count; i++)
		prefetch_to_write(mbufs[i]);
	for (i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = mbufs[i];

		/* Neighbours in memory are one store. */
		mbuf->data_off = RTE_PKTMBUF_HEADROOM;
		mbuf->refcnt = 1;
		mbuf->nb_segs = 1;
		mbuf->port = RTE_MBUF_PORT_INVALID;
		mbuf->ol_flags = 0;
		mbuf->packet_type = 0;
		mbuf->pkt_len = 0;
		mbuf->data_len = 0;
		mbuf->vlan_tci = 0;
	}
	return 0;
}

/*
 * Frees buffers of one pool, each with one owner, one segment and room of its own, as they are; 0, and
 * nothing done, if they are others.
 */
int shim_pktmbuf_free_plain(struct rte_mbuf **mbufs, unsigned int count)
{
	const uint64_t owners_and_segments = (uint64_t)0xffffffff << 16;
	const uint64_t one_of_each = (uint64_t)1 << 16 | (uint64_t)1 << 32;
	struct rte_mempool *pool = mbufs[0]->pool;
	uint64_t odd = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		const struct rte_mbuf *mbuf = mbufs[i];

		odd |= (*(const mbuf_counts *)&mbuf->rearm_data & owners_and_segments) ^ one_of_each;
		odd |= (uintptr_t)mbuf->pool ^ (uintptr_t)pool;
		odd |= (uintptr_t)mbuf->next;
		odd |= mbuf->ol_flags & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL);
	}
	if (odd != 0 || pool == NULL)
		return 0;
	rte_mempool_put_bulk(pool, (void *const *)mbufs, count);
	return 1;
}

struct rte_mbuf *shim_ring_dequeue(struct rte_ring *ring)
{
	void *mbuf = NULL;

	return rte_ring_dequeue(ring, &mbuf) == 0 ? mbuf : NULL;
}

unsigned int shim_ring_enqueue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_ring_enqueue_burst(ring, (void *const *)mbufs, count, NULL);
}

unsigned int shim_ring_dequeue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_ring_dequeue_burst(ring, (void **)mbufs, count, NULL);
}

unsigned int shim_ring_free_count(const struct rte_ring *ring)
{
	return rte_ring_free_count(ring);
}

/* rte_errno and the lcore id are thread-local variables, which bindings cannot name. */
int shim_errno(void)
{
	return rte_errno;
}

int shim_on_lcore(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

uint64_t shim_rdtsc(void)
{
	return rte_rdtsc();
}
