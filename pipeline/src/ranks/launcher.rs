//! Whether a launcher of parallel programs started this process, by what it leaves in the environment.

/// What is known of the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Its name.
    pub by: &'static str,
    /// How many processes it started.
    pub size: usize,
    /// The number of this one, from 0.
    pub rank: usize,
    /// What to do where MPI does not know of the others.
    pub advice: &'static str,
}

/// Launchers: their names, the variables with the number of processes and the number of one, and what to do where MPI does not
/// know of the others. Slurm sets `SLURM_NTASKS` in a batch script, too, which is one process: only `srun` sets the number of
/// tasks of a step. `mpirun` may start its processes by `srun`, so that it comes first.
const LAUNCHERS: [(&str, &str, &str, &str); 3] = [
    (
        "mpirun (Open MPI)",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "build with the MPI library that mpirun belongs to",
    ),
    ("mpiexec (PMI)", "PMI_SIZE", "PMI_RANK", "build with the MPI library that mpiexec belongs to"),
    (
        "srun",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "try `srun --mpi=pmix`; `srun --mpi=list` shows what there is",
    ),
];

/// The launcher that started this process, if one did.
pub fn launched() -> Option<Launched> {
    launched_by(|name| std::env::var(name).ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name| variable(name)?.trim().parse::<usize>().ok();
    LAUNCHERS.iter().find_map(|&(by, size, rank, advice)| {
        let size = number(size)?;
        Some(Launched { by, size, rank: number(rank).unwrap_or(0), advice })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<(&'static str, usize, usize)> {
        let value = |name: &str| {
            let own = variables.iter().find(|(known, _)| *known == name);
            own.map(|(_, value)| (*value).to_owned())
        };
        launched_by(value).map(|launched| (launched.by, launched.size, launched.rank))
    }

    #[test]
    fn launchers_are_known_by_their_variables() {
        assert_eq!(found(&[]), None);
        let open = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")];
        assert_eq!(found(&open), Some(("mpirun (Open MPI)", 4, 3)));
        assert_eq!(found(&[("PMI_SIZE", "2"), ("PMI_RANK", "1")]), Some(("mpiexec (PMI)", 2, 1)));
        let slurm = [("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0")];
        assert_eq!(found(&slurm), Some(("srun", 1, 0)));
        assert_eq!(found(&[slurm, open].concat()), Some(("mpirun (Open MPI)", 4, 3)));
        assert_eq!(found(&[("SLURM_NTASKS", "8")]), None, "a batch script is one process");
        assert_eq!(found(&[("PMI_SIZE", "many")]), None);
    }
}
