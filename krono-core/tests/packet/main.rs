//! Frames in, values and frames out: parse, rewrite, reply and BFD against packets that etherparse
//! builds and checks, in golden tables, at random, and under mutation.
//!
//! A failure prints its smallest input; `PROPTEST_RNG_SEED=N` repeats a run, `PROPTEST_CASES=N`
//! lengthens it.

mod bfd;
mod bodies;
mod build;
mod mutation;
mod parse;
mod properties;
mod reply;
mod rewrite;
