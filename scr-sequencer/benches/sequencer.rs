//! What numbering a packet costs, its history included: one turn of `next_core`, `assign` and
//! `room::write`, into private areas that lie as far apart as those of packet buffers.
//!
//! ```text
//! cargo bench -p scr-sequencer --bench sequencer
//! ```
//!
//! The areas are as many as the descriptors of seven rings, so they come from the second-level
//! cache, where a live sequencer's are in the first: it has just parsed the frame beside them. The
//! goal of 15 million packets a second is 66 ns for these, reception, parsing and rings.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use krono_core::packet::Side;
use krono_core::time::Moment;
use scr_sequencer::Shipped;
use scr_sequencer::room;
use scr_sequencer::sequencer::Sequencer;

const PACKETS: usize = 7 * 64;

/// From one private area to the next, bytes: an mbuf, an area, headroom and a frame.
const STRIDE: usize = 128 + 512 + 128 + 2048;

fn number<R: Shipped>(criterion: &mut Criterion, cores: usize) {
    let mut sequencer = Sequencer::<R>::new(cores, 2 * cores).expect("histories suffice");
    let bytes = room::bytes_needed::<R>(2 * cores);
    let mut buffers = vec![0; PACKETS * STRIDE];
    let name = format!("{cores} cores, records of {} bytes", R::BYTES);
    let mut group = criterion.benchmark_group("number");
    group.throughput(Throughput::Elements(PACKETS as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for buffer in buffers.chunks_exact_mut(STRIDE) {
                black_box(sequencer.next_core());
                let assigned = sequencer.assign(black_box(R::default()), Moment(1));
                let header = assigned.header(Side::Inside);
                room::write(&mut buffer[..bytes], &header, assigned.history);
            }
            black_box(&mut buffers);
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for cores in [1, 2, 7, 14] {
        number::<[u8; 4]>(&mut criterion, cores);
        number::<[u8; 8]>(&mut criterion, cores);
        number::<[u8; 18]>(&mut criterion, cores);
        number::<[u8; 30]>(&mut criterion, cores);
    }
    criterion.final_summary();
}
