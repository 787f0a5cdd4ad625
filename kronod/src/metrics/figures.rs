//! The figures in OpenMetrics text.

use std::fmt;
use std::sync::Arc;

use krono_core::counters::{Counter, CounterKind, CounterSnapshot, burst_class_start};
use krono_core::drop::DropReason;
use krono_core::packet::Side;
use krono_core::router::bfd::{State, View};
use krono_ha::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::control::protocol::{PortFigures, Role, ShardState};
use crate::control::{Facts, ShardFacts, snapshots};

/// All figures of a daemon, asked for anew whenever they are written.
pub(super) struct Figures {
    registry: Registry,
}

impl Figures {
    pub(super) fn of(facts: Arc<Facts>) -> Figures {
        let mut registry = Registry::with_prefix("krono");
        registry.register_collector(Box::new(Source(facts)));
        Figures { registry }
    }

    pub(super) fn encode(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a string takes everything");
        page
    }
}

struct Source(Arc<Facts>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder };
        let facts = &self.0;
        let uptime = facts.started.elapsed().as_secs();
        let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        page.family(CounterKind::Gauge, "build_info", "1, with the version.", [(build, 1)])?;
        page.family(
            CounterKind::Gauge,
            "uptime_seconds",
            "Since the daemon started.",
            [(vec![], uptime)],
        )?;
        let snapshots = snapshots(facts);
        let shards: Vec<_> = facts.shards.iter().zip(&snapshots).map(Sample::of).collect();
        page.shards(&shards)?;
        page.bfd(&facts.shards)?;
        page.twins(&facts.shards)?;
        page.ports(&(facts.ports)())
    }
}

/// A shard and its figures.
struct Sample<'f> {
    id: String,
    /// Which part of the shard, if it has several.
    part: Option<String>,
    state: ShardState,
    figures: &'f CounterSnapshot,
}

impl<'f> Sample<'f> {
    fn of(
        (shard, (state, figures)): (&ShardFacts, &'f (ShardState, CounterSnapshot)),
    ) -> Sample<'f> {
        let part = (shard.role != Role::Worker).then(|| shard.role.to_string());
        Sample { id: shard.id.to_string(), part, state: *state, figures }
    }

    fn labels(&self, more: &[(&'static str, &str)]) -> Labels {
        let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let part = self.part.iter().map(|part| ("part", part.clone()));
        std::iter::once(("shard", self.id.clone())).chain(part).chain(more).collect()
    }
}

type Labels = Vec<(&'static str, String)>;

struct Page<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Page<'_> {
    fn shards(&mut self, shards: &[Sample<'_>]) -> fmt::Result {
        let up = |shard: &Sample<'_>| u64::from(shard.state == ShardState::Polling);
        let each = shards.iter().map(|shard| (shard.labels(&[]), up(shard)));
        self.family(CounterKind::Gauge, "shard_up", "Whether the shard's worker answers.", each)?;

        for counter in Counter::ALL {
            let each = shards.iter().map(|shard| (shard.labels(&[]), shard.figures.of(*counter)));
            self.family(counter.kind(), counter.name(), counter.describe(), each)?;
        }
        let each = shards.iter().flat_map(|shard| {
            let drop = |reason: &DropReason| {
                (shard.labels(&[("reason", reason.name())]), shard.figures.dropped(*reason))
            };
            DropReason::ALL.iter().map(drop)
        });
        self.family(CounterKind::Total, "dropped", "Received frames that were dropped.", each)?;

        self.traffic(shards)?;
        let each = shards.iter().flat_map(|shard| {
            shard.figures.bursts().iter().enumerate().map(|(class, count)| {
                let size_min = burst_class_start(class).to_string();
                (shard.labels(&[("size_min", &size_min)]), *count)
            })
        });
        let help = "Bursts received, by their least size; classes are powers of two.";
        self.family(CounterKind::Total, "bursts", help, each)
    }

    fn bfd(&mut self, shards: &[ShardFacts]) -> fmt::Result {
        type Figure = fn(&View) -> u64;
        let families: [(CounterKind, &str, &str, Figure); 4] = [
            (
                CounterKind::Gauge,
                "bfd_up",
                "Whether the BFD session with a neighbour is up.",
                |it| u64::from(it.state == State::Up),
            ),
            (CounterKind::Total, "bfd_ups", "How often the BFD session has come up.", |it| {
                it.ups.into()
            }),
            (
                CounterKind::Gauge,
                "bfd_transmit_us",
                "Microseconds between BFD packets to the neighbour, without jitter.",
                |it| it.transmit_us.into(),
            ),
            (
                CounterKind::Gauge,
                "bfd_detection_us",
                "Microseconds of silence after which the neighbour counts as lost.",
                |it| it.detection_us,
            ),
        ];
        for (kind, name, help, figure) in families {
            let each = shards.iter().flat_map(|shard| {
                shard.bfd.look().map(move |(view, _)| {
                    let labels = vec![
                        ("shard", shard.id.to_string()),
                        ("side", view.side.to_string()),
                        ("neighbour", view.neighbour.to_string()),
                    ];
                    (labels, figure(&view))
                })
            });
            self.family(kind, name, help, each)?;
        }
        Ok(())
    }

    fn twins(&mut self, shards: &[ShardFacts]) -> fmt::Result {
        use CounterKind::{Gauge, Total};
        type Figure = fn(&Status) -> u64;
        let families: [(CounterKind, &str, &str, Figure); 10] = [
            (Gauge, "twin_serves", "Whether this half of the shard serves.", |it| {
                it.role.serves().into()
            }),
            (Gauge, "twin_epoch", "The epoch that the half serves or follows in.", |it| it.epoch),
            (Gauge, "twin_heard", "Whether the other half has been heard of lately.", |it| {
                it.is_live.into()
            }),
            (Gauge, "twin_safe", "Whether the half that follows may take over.", |it| {
                it.failover.is_ok().into()
            }),
            (Gauge, "twin_queued", "Changes that wait to be sent to the other half.", |it| {
                it.queued
            }),
            (
                Gauge,
                "twin_lag_ms",
                "Age of the oldest change that the half which follows may lack, milliseconds.",
                |it| it.lag_ms,
            ),
            (
                Total,
                "twin_gaps",
                "How often something that the other half told was missed.",
                |it| it.gaps,
            ),
            (
                Total,
                "twin_diverged",
                "Ranges of sessions found to differ though nothing was missed.",
                |it| it.diverged,
            ),
            (
                Total,
                "twin_refused",
                "Sessions told by the other half that had no place here.",
                |it| it.refused,
            ),
            (Total, "twin_overflowed", "Changes that found no room to wait.", |it| it.overflowed),
        ];
        for (kind, name, help, figure) in families {
            let each = shards.iter().filter_map(|shard| {
                let board = shard.twin.as_ref()?;
                let labels =
                    vec![("shard", shard.id.to_string()), ("peer", board.peer.to_string())];
                Some((labels, figure(&board.look()?)))
            });
            self.family(kind, name, help, each)?;
        }
        Ok(())
    }

    fn traffic(&mut self, shards: &[Sample<'_>]) -> fmt::Result {
        let flows = || {
            shards.iter().flat_map(|shard| {
                Side::BOTH.into_iter().flat_map(move |side| {
                    let labels = move |direction| {
                        shard.labels(&[("side", side.name()), ("direction", direction)])
                    };
                    let (rx, tx) = (shard.figures.rx(side), shard.figures.tx(side));
                    [(labels("rx"), rx), (labels("tx"), tx)]
                })
            })
        };
        let packets = flows().map(|(labels, traffic)| (labels, traffic.packets));
        self.family(CounterKind::Total, "packets", "Frames received and sent.", packets)?;
        let bytes = flows().map(|(labels, traffic)| (labels, traffic.bytes));
        self.family(CounterKind::Total, "bytes", "Bytes of frames received and sent.", bytes)
    }

    fn ports(&mut self, ports: &[PortFigures]) -> fmt::Result {
        type Figure = fn(&PortFigures) -> u64;
        let families: [(&str, &str, Figure); 8] = [
            ("port_rx_packets", "Frames that the device received.", |port| port.rx_packets),
            ("port_rx_bytes", "Bytes that the device received.", |port| port.rx_bytes),
            (
                "port_rx_missed",
                "Frames that the device lost because its receive ring was full.",
                |port| port.rx_missed,
            ),
            ("port_rx_errors", "Frames received damaged.", |port| port.rx_errors),
            (
                "port_rx_no_buffer",
                "Frames that the device lost because no buffer was free.",
                |port| port.rx_no_buffer,
            ),
            ("port_tx_packets", "Frames that the device sent.", |port| port.tx_packets),
            ("port_tx_bytes", "Bytes that the device sent.", |port| port.tx_bytes),
            ("port_tx_errors", "Frames that the device failed to send.", |port| port.tx_errors),
        ];
        for (name, help, figure) in families {
            let each = ports.iter().map(|port| (vec![("port", port.name.clone())], figure(port)));
            self.family(CounterKind::Total, name, help, each)?;
        }
        Ok(())
    }

    /// Writes one metric with all its label sets.
    fn family(
        &mut self,
        kind: CounterKind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let metric_type = match kind {
            CounterKind::Total => ConstCounter::new(0u64).metric_type(),
            CounterKind::Gauge => ConstGauge::new(0i64).metric_type(),
        };
        let mut family = self.encoder.encode_descriptor(name, help, None, metric_type)?;
        for (labels, value) in samples {
            let sample = family.encode_family(&labels)?;
            match kind {
                CounterKind::Total => ConstCounter::new(value).encode(sample)?,
                CounterKind::Gauge => ConstGauge::new(value.cast_signed()).encode(sample)?,
            }
        }
        Ok(())
    }
}
