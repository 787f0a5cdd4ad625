//! What the packets of a sequenced capture carry.

use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};
use krono_core::packet::Mac;
use krono_core::parse::parse;
use scr_sequencer::history::Carried;
use scr_sequencer::wire::{Codec, steering_mac};
use scr_sequencer::{Replicable, Shipped};

use crate::args::ShowArgs;
use crate::capture::Reader;

pub(crate) fn run<P: Replicable>(codec: &Codec<P::Record>, args: &ShowArgs) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut left = args.limit.unwrap_or(u64::MAX);
    for path in &args.files {
        let mut reader = Reader::open(path)?;
        let mut expected = Expected::new(codec);
        let mut number = 0;
        while left > 0
            && let Some(frame) = reader.next()?
        {
            (number, left) = (number + 1, left - 1);
            let core = core_of(&frame.bytes);
            let place = || format!("{}: frame {number}", path.display());
            let carried = codec.decode(&frame.bytes, expected.of(core));
            let carried = carried
                .map_err(|reason| anyhow::anyhow!("{}: {}", reason.name(), reason.describe()))
                .with_context(place)?;
            expected.is_seen(codec, core, carried.sequence);
            print(&mut out, core, &carried, &frame.bytes[codec.header_len()..], args)?;
        }
    }
    Ok(out.flush()?)
}

/// What numbers the next packets have: known where they carry them, counted where they do not.
struct Expected {
    by_core: Vec<u64>,
    latest: u64,
    is_counted: bool,
}

impl Expected {
    fn new<R: Shipped>(codec: &Codec<R>) -> Expected {
        let format = codec.format();
        let by_core = (0..format.cores).map(|core| codec.first(core)).collect();
        Expected { by_core, latest: 1, is_counted: !format.sequence }
    }

    fn of(&self, core: Option<usize>) -> u64 {
        let counted = core.and_then(|core| self.by_core.get(core));
        counted.copied().filter(|_| self.is_counted).unwrap_or(self.latest)
    }

    fn is_seen<R: Shipped>(&mut self, codec: &Codec<R>, core: Option<usize>, sequence: u64) {
        self.latest = sequence + 1;
        if let Some(next) = core.and_then(|core| self.by_core.get_mut(core)) {
            *next = codec.following(sequence);
        }
    }
}

/// The core that a frame is steered to, by its source or its destination.
fn core_of(bytes: &[u8]) -> Option<usize> {
    let address = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| Mac(*bytes));
    let is_steering = |mac: &Mac| *mac == steering_mac(mac.0[5]);
    let mac = [address(6), address(0)].into_iter().flatten().find(is_steering)?;
    Some(mac.0[5].into())
}

fn print<R: Shipped>(
    out: &mut impl Write,
    core: Option<usize>,
    carried: &Carried<'_, R>,
    frame: &[u8],
    args: &ShowArgs,
) -> io::Result<()> {
    let Carried { sequence, moment, history } = carried;
    write!(out, "packet {sequence}")?;
    if let Some(core) = core {
        write!(out, " to core {core}")?;
    }
    write!(out, ", moment {} ns, {} records, ", moment.0, history.len())?;
    match parse(frame, frame.len() as u32) {
        Ok((meta, _)) => {
            writeln!(out, "{:?} {} > {}, {} bytes", meta.kind, meta.src, meta.dst, meta.ip_len)?
        }
        Err(reason) => writeln!(out, "{reason}, {} bytes", frame.len())?,
    }
    if args.brief {
        return Ok(());
    }
    let first = sequence - history.len() as u64;
    for (number, record) in (first..).zip(history.iter()) {
        writeln!(out, "    {number}: {record:?}")?;
    }
    Ok(())
}
