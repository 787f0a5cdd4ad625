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

/* rte_pktmbuf_alloc_bulk, which waits for each buffer's lines where another lcore has freed them. */
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	int status = rte_mempool_get_bulk(pool, (void **)mbufs, count);
	unsigned int i;

	if (unlikely(status != 0))
		return status;
	for (i = 0; i < count; i++) {
		prefetch_to_write(mbufs[i]);
		prefetch_to_write((const char *)mbufs[i] + RTE_CACHE_LINE_MIN_SIZE);
	}
	for (i = 0; i < count; i++)
		rte_pktmbuf_reset(mbufs[i]);
	return 0;
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
