//! The programs of the paper, as `krono` runs them: sharded, locked or replicated.
