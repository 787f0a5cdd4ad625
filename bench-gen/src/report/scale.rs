//! An axis: from values to places, with round ticks.

use super::number;

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

/// A tick of an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// About how many ticks a linear axis has.
const TICKS: f64 = 6.0;

impl Scale {
    /// Covers `values` from one round number to another. Linear axes begin at zero unless all
    /// values are far from it; logarithmic ones leave out what is not positive.
    pub(super) fn over(values: impl Iterator<Item = f64>, log: bool) -> Scale {
        Scale::of(values, log, true)
    }

    /// The same, for values of which zero is nothing special, as of a time.
    pub(super) fn fitting(values: impl Iterator<Item = f64>, log: bool) -> Scale {
        Scale::of(values, log, false)
    }

    fn of(values: impl Iterator<Item = f64>, log: bool, from_zero: bool) -> Scale {
        let usable = values.filter(|value| value.is_finite() && (!log || *value > 0.0));
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        match (low <= high, log) {
            (false, true) => Scale { low: 1.0, high: 10.0, log },
            (false, false) => Scale { low: 0.0, high: 1.0, log },
            (true, true) => Scale::log_over(low, high),
            (true, false) => Scale::linear_over(low, high, from_zero),
        }
    }

    fn linear_over(low: f64, high: f64, from_zero: bool) -> Scale {
        // An axis from zero is honest about sizes; given up only where all would look the same.
        let near = from_zero && low >= 0.0 && high - low > 0.2 * high;
        let low = if near || high == low { low.min(0.0) } else { low };
        let high = if high == low { low + 1.0 } else { high };
        let step = round_step((high - low) / TICKS);
        let whole = |value: f64| value / step;
        Scale {
            low: (whole(low) + 1e-9).floor() * step,
            high: (whole(high) - 1e-9).ceil() * step,
            log: false,
        }
    }

    fn log_over(low: f64, high: f64) -> Scale {
        let (low, high) = (round_down(low), round_up(high));
        let high = if high <= low * 1.0001 { round_up(high * 1.5) } else { high };
        Scale { low, high, log: true }
    }

    /// Where a value lies, from 0 to 1; `None`: it cannot be shown.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.log && value <= 0.0) {
            return None;
        }
        let of = |value: f64| if self.log { value.log10() } else { value };
        let place = (of(value) - of(self.low)) / (of(self.high) - of(self.low));
        (-1e-6..=1.0 + 1e-6).contains(&place).then(|| place.clamp(0.0, 1.0))
    }

    /// Where bars stand.
    pub(super) fn floor(&self) -> f64 {
        self.low
    }

    /// The ticks with their labels, which share one prefix where the axis is linear.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        if self.log { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<Tick> {
        let step = round_step((self.high - self.low) / TICKS);
        let count = ((self.high - self.low) / step).round() as usize;
        let size = self.high.abs().max(self.low.abs());
        let power = if size < 1e4 { 0 } else { number::power_of(size) };
        let unit = 1000f64.powi(power as i32);
        let decimals = (-(step / unit * 1.0001).log10().floor()).clamp(0.0, 12.0) as usize;
        let prefix = number::with_prefix(unit, power, 1).replacen('1', "", 1);
        let tick = |index: usize| {
            let value = self.low + step * index as f64;
            let text = number::trimmed(format!("{:.decimals$}", value / unit));
            let prefix = if text == "0" { "" } else { &prefix };
            Tick { value, label: format!("{text}{prefix}") }
        };
        (0..=count).map(tick).collect()
    }

    fn log_ticks(&self) -> Vec<Tick> {
        let decades = (self.high / self.low).log10();
        let digits: &[f64] = match decades {
            ..1.5 => &[1.0, 2.0, 5.0],
            ..2.5 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let apart = (decades / 9.0).ceil().max(1.0) as usize;
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        (first..=last)
            .step_by(apart)
            .flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)))
            .filter(|value| (self.low * 0.999..=self.high * 1.001).contains(value))
            .map(|value| Tick { value, label: log_label(value) })
            .collect()
    }
}

fn log_label(value: f64) -> String {
    if value < 1e3 {
        return number::short(value);
    }
    number::with_prefix(value, number::power_of(value), 4)
}

/// The next 1, 2 or 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = step / power;
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|round| digit <= round * 1.0001);
    round.unwrap_or(10.0) * power
}

fn round_up(value: f64) -> f64 {
    let power = 10f64.powf((value.log10() + 1e-9).floor());
    let digit = value / power;
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|round| digit <= round * 1.0001);
    round.unwrap_or(10.0) * power
}

fn round_down(value: f64) -> f64 {
    let power = 10f64.powf((value.log10() + 1e-9).floor());
    let digit = value / power;
    let round = [5.0, 2.0, 1.0].into_iter().find(|round| digit >= round * 0.9999);
    round.unwrap_or(1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], log: bool) -> String {
        let ticks = Scale::over(values.iter().copied(), log).ticks();
        let labels: Vec<String> = ticks.into_iter().map(|tick| tick.label).collect();
        labels.join(" | ")
    }

    #[test]
    fn linear_ticks_are_round_and_share_a_prefix() {
        for (values, expected) in [
            (&[0.0, 10.0][..], "0 | 2 | 4 | 6 | 8 | 10"),
            (&[3.0, 97.0], "0 | 20 | 40 | 60 | 80 | 100"),
            (&[0.0, 1_234_567.0], "0 | 0.5 M | 1 M | 1.5 M"),
            (&[120.0, 9_000.0], "0 | 2 k | 4 k | 6 k | 8 k | 10 k"),
            (&[0.0, 30_000.0], "0 | 5 k | 10 k | 15 k | 20 k | 25 k | 30 k"),
            (&[0.0, 0.012], "0 | 0.002 | 0.004 | 0.006 | 0.008 | 0.01 | 0.012"),
            (&[995.0, 1_000.0], "995 | 996 | 997 | 998 | 999 | 1000"),
            (&[-3.0, 3.0], "-3 | -2 | -1 | 0 | 1 | 2 | 3"),
            (&[0.0, 0.0], "0 | 0.2 | 0.4 | 0.6 | 0.8 | 1"),
            (&[42.0], "0 | 10 | 20 | 30 | 40 | 50"),
            (&[], "0 | 0.2 | 0.4 | 0.6 | 0.8 | 1"),
            (&[f64::NAN, 4.0], "0 | 1 | 2 | 3 | 4"),
        ] {
            assert_eq!(labels(values, false), expected, "{values:?}");
        }
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_and_their_parts() {
        for (values, expected) in [
            (&[1.0, 1e6][..], "1 | 10 | 100 | 1 k | 10 k | 100 k | 1 M"),
            (&[12.0, 90.0], "10 | 20 | 50 | 100"),
            (&[3.0, 400.0], "3 | 10 | 30 | 100 | 300"),
            (&[0.0, -4.0, 0.02, 3.0], "0.03 | 0.1 | 0.3 | 1 | 3"),
            (&[1e-6, 100.0], "1.0e-6 | 1.0e-5 | 0.0001 | 0.001 | 0.01 | 0.1 | 1 | 10 | 100"),
            (&[50.0], "50 | 100"),
            (&[], "1 | 2 | 5 | 10"),
        ] {
            assert_eq!(labels(values, true), expected, "{values:?}");
        }
    }

    #[test]
    fn values_have_their_place() {
        let fitting = Scale::fitting([4.0, 6.2].into_iter(), false);
        assert_eq!((fitting.place(4.0), fitting.place(0.0).is_some()), (Some(0.0), false));
        let linear = Scale::over([0.0, 200.0].into_iter(), false);
        assert_eq!(linear.place(50.0), Some(0.25));
        assert_eq!(linear.place(201.0), None);
        let log = Scale::over([1.0, 10_000.0].into_iter(), true);
        assert_eq!(log.place(100.0), Some(0.5));
        assert_eq!(log.place(0.0), None);
        assert_eq!(log.place(f64::INFINITY), None);
    }

    #[test]
    fn every_value_is_within_its_own_scale() {
        let mut value = 1.3e-7;
        while value < 1e12 {
            for log in [false, true] {
                let scale = Scale::over([value, value * 7.7].into_iter(), log);
                assert!(scale.place(value).is_some(), "{value} {scale:?}");
                assert!(scale.place(value * 7.7).is_some(), "{value} {scale:?}");
                let ticks = scale.ticks().len();
                assert!((2..=10).contains(&ticks), "{value}: {:?}", scale.ticks());
            }
            value *= 1.37;
        }
    }
}
