//! Statistics of evaluations: pass@k, majority votes, and how far to trust them.

/// The 97.5 % quantile of the normal distribution: two-sided 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;

/// The unbiased estimate of pass@k from `right` right answers among `samples`: the chance that `k` of the samples, drawn
/// without replacement, have a right one among them.
///
/// `1 − C(samples − right, k) / C(samples, k)`, as a product so that nothing overflows (Chen et al. 2021, arXiv:2107.03374,
/// section 2.1).
///
/// # Panics
/// If `k` is 0 or above `samples`, or `right` is above `samples`.
#[track_caller]
pub fn pass_at_k(samples: usize, right: usize, k: usize) -> f64 {
    assert!((1..=samples).contains(&k), "pass_at_k: k = {k} with {samples} samples");
    assert!(right <= samples, "pass_at_k: {right} right answers among {samples}");
    if samples - right < k {
        return 1.0;
    }
    let all_wrong: f64 = (samples - right + 1..=samples).map(|n| 1.0 - k as f64 / n as f64).product();
    1.0 - all_wrong
}

/// Counts votes, without those that abstain, in order of first appearance of each answer.
fn tally<T: PartialEq>(votes: &[Option<T>]) -> Vec<(&T, usize)> {
    let mut counts: Vec<(&T, usize)> = Vec::new();
    for vote in votes.iter().flatten() {
        match counts.iter_mut().find(|(answer, _)| *answer == vote) {
            Some((_, count)) => *count += 1,
            None => counts.push((vote, 1)),
        }
    }
    counts
}

/// cons@k: the chance that the majority of `k` votes is `truth`, a tie being broken by an even draw among its answers.
///
/// More votes per problem than `k` are cut into groups of `k` in order and averaged; a rest is left out. A vote of `None`
/// (no answer that can be read) abstains, and where all abstain the majority is wrong.
///
/// # Panics
/// If `k` is 0 or above the number of votes.
#[track_caller]
pub fn cons_at_k<T: PartialEq>(votes: &[Option<T>], truth: &T, k: usize) -> f64 {
    assert!((1..=votes.len()).contains(&k), "cons_at_k: k = {k} with {} votes", votes.len());
    let groups = votes.chunks_exact(k);
    let count = groups.len();
    let shares = groups.map(|group| {
        let counts = tally(group);
        let most = counts.iter().map(|&(_, count)| count).max();
        let leaders: Vec<&T> = counts.into_iter().filter(|&(_, count)| Some(count) == most).map(|(answer, _)| answer).collect();
        if leaders.contains(&truth) { 1.0 / leaders.len() as f64 } else { 0.0 }
    });
    shares.sum::<f64>() / count as f64
}

/// Wilson's 95 % interval for a proportion `p` in `n` independent trials: stays within 0 and 1 and is honest near them (Wilson 1927).
fn wilson(p: f64, n: f64) -> [f64; 2] {
    let denominator = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / denominator;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / denominator;
    // At p = 0 and 1 the ends are exact; rounding must not push them past.
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// A measured value with its 95 % confidence interval: the mean over problems of one value each, with the error that comes from having
/// only so many problems.
///
/// Samples of one problem rise and fall together, so the problem is the unit: each counts by its own mean, and the standard
/// error is that of the problem means ("clustered", Miller 2024, arXiv:2411.00640). It covers the sampling of answers too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The point estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Score {
    /// Of values between 0 and 1 (pass@1, pass@k or cons@k of each problem). The interval is Wilson's, at the number of independent
    /// trials that would have this standard error. Where the values hardly vary, or so close to 0 or 1 that a handful of problems
    /// decides how much they do, that is at most the number of problems.
    ///
    /// # Panics
    /// If there are no values.
    #[track_caller]
    pub fn share(values: &[f64]) -> Score {
        let (value, error) = mean_and_error(values);
        let (problems, variance) = (values.len() as f64, value * (1.0 - value));
        // Equal values differ from their mean by a rounding.
        let trials = if error > 1e-12 && variance > 0.0 { variance / (error * error) } else { problems };
        let few = problems * value.min(1.0 - value) < 5.0;
        let [low, high] = wilson(value, if few { trials.min(problems) } else { trials });
        Score { value, low, high }
    }

    /// Of values without bounds, such as lengths. A single problem has no interval.
    ///
    /// # Panics
    /// If there are no values.
    #[track_caller]
    pub fn mean(values: &[f64]) -> Score {
        let (value, error) = mean_and_error(values);
        Score { value, low: value - Z * error, high: value + Z * error }
    }
}

/// The mean of some values and its standard error; 0 for a single one, which says nothing about others.
#[track_caller]
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    assert!(!values.is_empty(), "a score of no problems");
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0) / n).sqrt() } else { 0.0 })
}

/// pass@k over problems; `outcomes[p][s]` says whether sample `s` of problem `p` is right.
///
/// # Panics
/// If there are no problems, or one has fewer than `k` samples.
#[track_caller]
pub fn pass_score(outcomes: &[Vec<bool>], k: usize) -> Score {
    let of_problem = |samples: &Vec<bool>| pass_at_k(samples.len(), samples.iter().filter(|&&right| right).count(), k);
    Score::share(&outcomes.iter().map(of_problem).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn pass_at_k_is_the_share_of_subsets_with_a_right_one() {
        for samples in 1..=9usize {
            for right in 0..=samples {
                for k in 1..=samples {
                    let subsets = (0u32..1 << samples).filter(|set| set.count_ones() as usize == k);
                    let total = subsets.clone().count();
                    // Samples 0..right are the right ones.
                    let hits = subsets.filter(|set| set & ((1 << right) - 1) != 0).count();
                    let expected = hits as f64 / total as f64;
                    let found = pass_at_k(samples, right, k);
                    // At most 9 factors, each rounded twice, and one subtraction: 20 roundings of values up to 1.
                    assert!((found - expected).abs() <= 20.0 * f64::EPSILON, "{samples} {right} {k}: {found} {expected}");
                }
            }
        }
        assert_eq!(pass_at_k(100_000, 0, 16), 0.0);
        assert_eq!(pass_at_k(16, 16, 16), 1.0);
    }

    #[test]
    #[should_panic(expected = "pass_at_k: k = 5 with 4 samples")]
    fn pass_at_k_needs_k_samples() {
        pass_at_k(4, 1, 5);
    }

    #[test]
    fn cons_at_k_groups_its_votes() {
        let votes = [Some(1), Some(1), Some(2), Some(2), Some(2), None, Some(1)];
        // Groups (1, 1, 2) and (2, 2, –); the seventh vote is left out.
        assert_eq!(cons_at_k(&votes, &1, 3), 0.5);
        assert_eq!(cons_at_k(&votes, &1, 7), 0.5); // three against three
        assert_eq!(cons_at_k(&[None::<i64>, None], &1, 2), 0.0);
    }

    #[test]
    fn wilson_intervals_are_the_published_ones() {
        // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
        for (successes, trials, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let interval = wilson(f64::from(successes) / f64::from(trials), f64::from(trials));
            assert!((interval[0] - low).abs() < 5.1e-5 && (interval[1] - high).abs() < 5.1e-5, "{interval:?}");
        }
        assert_eq!(wilson(1.0, 20.0)[1], 1.0);
    }

    #[test]
    fn independent_problems_give_wilsons_interval() {
        let scores: Vec<f64> = (0..263).map(|i| if i < 81 { 1.0 } else { 0.0 }).collect();
        let (clustered, plain) = (Score::share(&scores), wilson(81.0 / 263.0, 263.0));
        // The sample variance divides by n − 1 where a proportion's divides by n: the interval is wider by 1/(2n), 0.2 %.
        assert!((clustered.low - plain[0]).abs() < 0.0002 && (clustered.high - plain[1]).abs() < 0.0002);
        let all = Score::share(&[1.0; 20]);
        assert_eq!([all.low, all.high], wilson(1.0, 20.0));
        let one = Score::share(&[0.25]);
        assert_eq!([one.low, one.high], wilson(0.25, 1.0));
    }

    #[test]
    fn a_mean_has_an_interval_over_problems() {
        let score = Score::mean(&[30.0, 34.0, 38.0, 42.0]);
        // Deviations 6, 2, 2, 6: variance 80 / 3, standard error (80 / 12)^½.
        let half = Z * (80.0f64 / 12.0).sqrt();
        assert!(
            (score.value - 36.0).abs() < 1e-12
                && (score.high - 36.0 - half).abs() < 1e-12
                && (36.0 - half - score.low).abs() < 1e-12
        );
        assert_eq!(Score::mean(&[7.0]), Score { value: 7.0, low: 7.0, high: 7.0 });
    }

    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says() {
        // Problems whose chances differ (uniform on 0..1, mean 1/2), 8 samples each, 64 problems, 2000 evaluations. Samples
        // taken as independent would give intervals half as wide, that cover 2 times in 3.
        let mut rng = Rng::new(1, "coverage", 0);
        let covered = (0..2000).filter(|_| {
            let outcomes: Vec<Vec<bool>> = (0..64)
                .map(|_| {
                    let chance = rng.uniform();
                    (0..8).map(|_| rng.chance(chance)).collect()
                })
                .collect();
            let Score { low, high, .. } = pass_score(&outcomes, 1);
            low <= 0.5 && 0.5 <= high
        });
        let share = covered.count() as f64 / 2000.0;
        // 95 %, give or take 4 standard errors of sqrt(0.95 · 0.05 / 2000) = 0.005.
        assert!((share - 0.95).abs() < 0.02, "{share}");
    }

    #[test]
    fn a_few_hard_problems_are_not_overlooked() {
        // Nearly every problem is solved nearly always: what little varies says nothing about the few that are not.
        let mut rng = Rng::new(2, "saturated", 0);
        for (easy, hard, of_hard, k) in [(0.95, 0.1, 0.01, 4), (0.9, 0.05, 0.01, 4), (0.85, 0.0, 0.005, 4), (0.99, 0.1, 0.01, 1)]
        {
            let fails = |chance: f64| (1.0f64 - chance).powi(k);
            let truth = 1.0 - of_hard * fails(hard) - (1.0 - of_hard) * fails(easy);
            let covered = (0..1000).filter(|_| {
                let mut answers = || {
                    let chance = if rng.chance(of_hard) { hard } else { easy };
                    (0..16).map(|_| rng.chance(chance)).collect()
                };
                let outcomes: Vec<Vec<bool>> = (0..128).map(|_| answers()).collect();
                let Score { low, high, .. } = pass_score(&outcomes, k as usize);
                low <= truth && truth <= high
            });
            let share = covered.count() as f64 / 1000.0;
            assert!(share > 0.92, "pass@{k} with {of_hard} of the problems hard: {share}");
        }
        // Equal scores whose mean is rounded count as equal.
        let Score { low, high, .. } = Score::share(&[pass_at_k(16, 5, 4); 8]);
        assert!(high - low > 0.2, "{low} to {high}");
    }

    proptest! {
        #[test]
        fn cons_at_k_is_the_mean_over_tie_breaks(votes in prop::collection::vec(prop::option::of(0u8..4), 1..10), truth in 0u8..4) {
            // Over all orders of the labels' priority each leader wins equally often: enumerate them (24 of 4 labels) and count.
            let count = |label: u8| votes.iter().flatten().filter(|&&vote| vote == label).count();
            let mut wins = 0;
            let mut orders = 0;
            for code in 0..256u32 {
                let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6].map(|label| label as u8);
                if (0..4).any(|label| !order.contains(&label)) {
                    continue;
                }
                orders += 1;
                let winner = order.iter().rev().copied().max_by_key(|&label| count(label)).unwrap();
                wins += usize::from(winner == truth && count(winner) > 0);
            }
            prop_assert_eq!(orders, 24);
            let expected = wins as f64 / orders as f64;
            prop_assert!((cons_at_k(&votes, &truth, votes.len()) - expected).abs() < 1e-15);
        }

        #[test]
        fn pass_at_1_is_the_mean(outcomes in prop::collection::vec(prop::collection::vec(prop::bool::ANY, 1..8), 1..8)) {
            let shares = outcomes.iter().map(|samples| samples.iter().filter(|&&s| s).count() as f64 / samples.len() as f64);
            let mean = shares.sum::<f64>() / outcomes.len() as f64;
            prop_assert!((pass_score(&outcomes, 1).value - mean).abs() < 1e-14);
        }
    }
}
