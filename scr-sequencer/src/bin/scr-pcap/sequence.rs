//! An ordinary capture becomes a sequenced one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use krono_core::drop::DropReason;
use krono_core::packet::{Kind, PacketMeta};
use krono_core::parse::parse;
use krono_core::time::Moment;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scr_sequencer::history::{Carried, History};
use scr_sequencer::sequencer::Sequencer;
use scr_sequencer::wire::{Codec, link, steering_mac};
use scr_sequencer::{Replicable, Shipped};

use crate::args::{SequenceArgs, Steer};
use crate::capture::{Frame, Reader, Writer};

/// So many of the first and of the last packets are never lost, as in the published experiments.
const NEVER_LOST: u64 = 1024;

/// The longest frame whose parts have offsets of 16 bits.
const FRAME_MAX: usize = u16::MAX as usize;

/// What became of the frames.
#[derive(Default)]
struct Counts {
    frames: u64,
    /// Of which only the beginning was captured.
    snapped: u64,
    /// Earlier than the one before.
    back_in_time: u64,
    unparsed: BTreeMap<DropReason, u64>,
    too_long: u64,
    numbered: u64,
    lost: u64,
    /// Longer than they were to be padded to.
    unpadded: u64,
    /// By core.
    written: Vec<u64>,
    bytes: u64,
}

pub(crate) fn run<P: Replicable>(codec: &Codec<P::Record>, args: &SequenceArgs) -> Result<()> {
    let mut losses = Losses::new::<P>(codec, args)?;
    let mut source = Source::open(args)?;
    let outputs = outputs(args)?;
    let mut sink = Sink { outputs, codec, args, counts: &mut Counts::default(), bytes: vec![] };
    let cores = codec.format().cores;
    sink.counts.written = vec![0; cores];
    let mut sequencer = Sequencer::<P::Record>::new(cores, cores - 1)?;
    let mut now = Moment::default();
    while let Some((frame, meta)) = source.next(codec.header_len(), sink.counts)? {
        sink.counts.back_in_time += u64::from(frame.time_ns < now.0);
        now = now.max(Moment(frame.time_ns));
        let record = match meta.kind {
            Kind::ArpRequest | Kind::ArpReply => P::Record::default(),
            _ => P::record(&meta, args.side, now),
        };
        let assigned = sequencer.assign(record, now);
        sink.counts.numbered += 1;
        if losses.takes(assigned.sequence) {
            sink.counts.lost += 1;
            continue;
        }
        let history = History::new(assigned.history);
        let carried = Carried { sequence: assigned.sequence, moment: now, history };
        sink.write(assigned.core, &carried, &frame)?;
    }
    let Sink { outputs, counts, .. } = sink;
    outputs.into_iter().try_for_each(Writer::finish)?;
    Ok(report(codec, args, counts)?)
}

/// The frames that can be numbered.
struct Source(Reader);

impl Source {
    fn open(args: &SequenceArgs) -> Result<Source> {
        Ok(Source(Reader::open(&args.input)?))
    }

    /// The next frame that can be parsed and, with a header in front, sent. What was not captured of
    /// it is zeros.
    fn next(
        &mut self,
        header_len: usize,
        counts: &mut Counts,
    ) -> Result<Option<(Frame, PacketMeta)>> {
        while let Some(mut frame) = self.0.next()? {
            counts.frames += 1;
            if header_len + frame.wire_len.max(frame.bytes.len()) > FRAME_MAX {
                counts.too_long += 1;
                continue;
            }
            if frame.bytes.len() < frame.wire_len {
                counts.snapped += 1;
                frame.bytes.resize(frame.wire_len, 0);
            }
            match parse(&frame.bytes, frame.bytes.len() as u32) {
                Ok((meta, _)) => return Ok(Some((frame, meta))),
                Err(reason) => *counts.unparsed.entry(reason).or_default() += 1,
            }
        }
        Ok(None)
    }
}

/// Where sequenced frames go.
struct Sink<'a, R> {
    /// One for all, or one for each core.
    outputs: Vec<Writer>,
    codec: &'a Codec<R>,
    args: &'a SequenceArgs,
    counts: &'a mut Counts,
    bytes: Vec<u8>,
}

impl<R: Shipped> Sink<'_, R> {
    fn write(&mut self, core: usize, carried: &Carried<'_, R>, frame: &Frame) -> Result<()> {
        let steering = steering_mac(core as u8);
        let link = match self.args.steer {
            Steer::Source => link(self.args.mac, steering),
            Steer::Destination => link(steering, self.args.mac),
        };
        let (header_len, padding) =
            (self.codec.header_len(), self.codec.padding(frame.bytes.len()));
        self.bytes.clear();
        self.bytes.resize(header_len, 0);
        self.codec.encode(&link, carried, &mut self.bytes);
        self.bytes.extend_from_slice(&frame.bytes);
        self.bytes.resize(self.bytes.len() + padding, 0);
        let is_longer = self.args.pad.is_some_and(|len| self.bytes.len() > usize::from(len));
        self.counts.unpadded += u64::from(is_longer);
        self.counts.written[core] += 1;
        self.counts.bytes += self.bytes.len() as u64;
        let output = core % self.outputs.len();
        self.outputs[output].write(frame.time_ns, &self.bytes)
    }
}

/// Which packets are lost between the sequencer and their cores.
struct Losses {
    share: f64,
    rng: ChaCha8Rng,
    /// How many packets there are.
    packets: u64,
}

impl Losses {
    fn new<P: Replicable>(codec: &Codec<P::Record>, args: &SequenceArgs) -> Result<Losses> {
        let rng = ChaCha8Rng::seed_from_u64(args.seed);
        let mut losses = Losses { share: args.lose, rng, packets: 0 };
        if args.lose > 0.0 {
            // The last ones are known only if all are counted before.
            let (mut source, mut counts) = (Source::open(args)?, Counts::default());
            while source.next(codec.header_len(), &mut counts)?.is_some() {
                losses.packets += 1;
            }
        }
        Ok(losses)
    }

    fn takes(&mut self, sequence: u64) -> bool {
        let is_at_risk = sequence > NEVER_LOST && sequence + NEVER_LOST <= self.packets;
        is_at_risk && self.rng.random_bool(self.share)
    }
}

/// The files to write, which must not be the one that is read.
fn outputs(args: &SequenceArgs) -> Result<Vec<Writer>> {
    let paths = match args.per_core {
        true => (0..args.format.cores).map(|core| of_core(&args.output, core)).collect(),
        false => vec![args.output.clone()],
    };
    let input = fs::canonicalize(&args.input).with_context(|| args.input.display().to_string())?;
    for path in &paths {
        if fs::canonicalize(path).is_ok_and(|path| path == input) {
            bail!("{}: it is the capture that is read", path.display());
        }
    }
    paths.into_iter().map(Writer::create).collect()
}

fn of_core(path: &Path, core: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|extension| extension.to_string_lossy());
    let extension = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    path.with_file_name(format!("{stem}-{core}{extension}"))
}

/// Prints what became of the frames; what did not happen is not mentioned.
fn report<R: Shipped>(codec: &Codec<R>, args: &SequenceArgs, counts: &Counts) -> io::Result<()> {
    let mut lines = vec![(counts.frames, format!(" frames in {}", args.input.display()))];
    let note = |lines: &mut Vec<_>, count: u64, what: &str| {
        if count > 0 {
            lines.push((count, format!("   {what}")));
        }
    };
    note(&mut lines, counts.snapped, "captured in part only: the rest is zeros");
    note(&mut lines, counts.back_in_time, "earlier than one before: with the moment of that");
    note(&mut lines, counts.too_long, "left out: too long with a header in front");
    for (reason, count) in &counts.unparsed {
        let (name, why) = (reason.name(), reason.describe());
        note(&mut lines, *count, &format!("dropped before numbering: {name}: {why}"));
    }
    lines.push((counts.numbered, " packets numbered".to_owned()));
    note(&mut lines, counts.lost, "lost on their way to the core, on purpose");
    note(&mut lines, counts.unpadded, "longer than they were to be padded to");
    for (core, count) in counts.written.iter().enumerate() {
        lines.push((*count, format!("   to core {core}")));
    }
    let in_all = format!(" bytes in front of each, {} in all", counts.bytes);
    lines.push((codec.header_len() as u64, in_all));
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|(count, what)| writeln!(out, "{count:>10}{what}"))
}
