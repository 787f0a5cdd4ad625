//! What was measured on a campus link: "AGH 2015".
//!
//! Source: P. Jurkiewicz, G. Rzym, P. Borylo, *Flow length and size distributions in campus
//! Internet traffic*, Computer Communications 167 (2021) 15-30, arXiv 1809.03486; parameters and
//! histograms from the authors' flow-models (github.com/piotrjurkiewicz/flow-models,
//! data/agh_2015; Copyright (c) 2018 Piotr Jurkiewicz, MIT License). Four thousand million flows in
//! 30 days of unsampled NetFlow on the Internet link of dormitories and staff; a flow is one
//! direction of a 5-tuple.

/// One part of the mixture of flow lengths, less one and before rounding down, packets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// All alike from 0 to below this.
    Uniform(f64),
    /// Log-normal: the exponential of a normal deviate times `sigma`, times `median`.
    LogNormal { sigma: f64, median: f64 },
}

use Part::{LogNormal, Uniform};

/// Weights and parts, all protocols together (`all-length-flows-mixture.json`).
pub(super) const LENGTHS: [(f64, Part); 10] = [
    (0.305_026_577, Uniform(1.0)),
    (0.248_419_880, Uniform(2.0)),
    (0.063_660_637, Uniform(3.0)),
    (0.049_216_500, Uniform(4.0)),
    (0.009_315_592, Uniform(5.0)),
    (0.082_174_742, Uniform(6.0)),
    (0.131_263_750, LogNormal { sigma: 0.520_702, median: 7.805_60 }),
    (0.073_286_154, LogNormal { sigma: 0.770_106, median: 22.109_73 }),
    (0.029_289_126, LogNormal { sigma: 1.125_265, median: 128.645_15 }),
    (0.008_347_043, LogNormal { sigma: 1.983_837, median: 1_084.470_76 }),
];

/// The mean frame of flows of 1, 2 … 7 packets, bytes (`all-length-histogram.csv`: octets by
/// packets; the least is 64, so these are frames).
pub(super) const FRAME_SHORT: [u16; 7] = [150, 133, 155, 185, 192, 196, 262];

/// The mean frame of flows of 8 to 15 packets, 16 to 31 and so on by powers of two, bytes.
pub(super) const FRAME_LONG: [u16; 18] =
    [298, 362, 456, 526, 603, 613, 652, 766, 798, 829, 856, 838, 866, 985, 1078, 1061, 1049, 1097];
