//! Median, quartiles, and ratios of figures that belong to the same round.

/// The middle of some figures and the half of them that lies around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

impl Spread {
    /// Returns the spread of all figures that are there; `None` if none is.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        if figures.is_empty() {
            return None;
        }
        figures.sort_by(f64::total_cmp);
        let at = |part| quantile(&figures, part);
        Some(Self { median: at(0.5), lower: at(0.25), upper: at(0.75) })
    }

    /// Returns the spread of the ratios of figures of the same round. A round that lacks one of the two is left out.
    pub(crate) fn of_ratios(top: &[Option<f64>], bottom: &[Option<f64>]) -> Option<Self> {
        let pairs = top.iter().zip(bottom).filter_map(|(top, bottom)| Some((*top)? / (*bottom)?));
        Self::of(pairs)
    }
}

/// Returns the quantile of a part. Between two figures it lies where the part says. `sorted` is not empty.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_quartiles_lie_between() {
        let spread = Spread::of([5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, lower: 2.0, upper: 4.0 });
        let spread = Spread::of([1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 1.5, lower: 1.25, upper: 1.75 });
        assert_eq!(Spread::of([7.0]).unwrap(), Spread { median: 7.0, lower: 7.0, upper: 7.0 });
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
        assert_eq!(Spread::of_ratios(&[Some(1.0)], &[None]), None);
        assert_eq!(Spread::of_ratios(&[Some(1.0)], &[Some(0.0)]), None);
    }

    #[test]
    fn ratios_are_those_of_one_round() {
        // A machine that is twice as slow in the second round does not show in the ratio.
        let ours = [Some(10.0), Some(20.0), None];
        let limit = [Some(5.0), Some(10.0), Some(1.0)];
        assert_eq!(Spread::of_ratios(&ours, &limit).unwrap().median, 2.0);
    }
}
