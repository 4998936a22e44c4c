//! How much of the machine a training job takes where the configuration does not say.

/// The kernel's weights of niceness 0 to 19 (`sched_prio_to_weight`): threads of one core share its time in their
/// proportion.
const WEIGHTS: [u32; 20] =
    [1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15];

/// Busy threads of the service for each core, all of niceness 0, against which a job must get its share. A service under
/// full load has more threads than that, and they wait for each other: on two cores, with 64 connections asking a resnet18
/// on both of them, a job of one thread got 15 % of a core at niceness 19, 20 at 10, 30 at 7 and 38 at 5; predictions went
/// from 750 a second to 765 at 10, 679 at 7 and 669 at 5. Weights hold among the processes of one session or control group:
/// what others take of the machine, niceness cannot bring back.
const BUSY: f64 = 1.0;

/// The highest niceness with which one thread of a job gets `percent` of a core beside a service under full load.
pub(crate) fn niceness(percent: f64) -> u8 {
    let share = (percent / 100.0).clamp(0.0, 0.99);
    let needed = share / (1.0 - share) * BUSY * f64::from(WEIGHTS[0]);
    // Niceness below 0 takes privileges.
    WEIGHTS.iter().rposition(|&weight| f64::from(weight) >= needed).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_share_is_a_lower_niceness() {
        let by_percent: Vec<u8> = (0..=100).map(|percent| niceness(f64::from(percent))).collect();
        assert!(by_percent.is_sorted_by(|a, b| a >= b), "{by_percent:?}");
        assert_eq!((by_percent[0], by_percent[100]), (19, 0));
        for (percent, &nice) in by_percent.iter().enumerate().filter(|(_, nice)| **nice > 0) {
            let weight = f64::from(WEIGHTS[usize::from(nice)]);
            let share = weight / (weight + BUSY * f64::from(WEIGHTS[0]));
            assert!(share * 100.0 >= percent as f64, "{percent} % is niceness {nice}: {share}");
        }
    }
}
