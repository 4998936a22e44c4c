//! Training by several processes of a launcher.

use crate::support::{Run, Sandbox, finish};

#[cfg(feature = "mpi")]
mod together;

/// As a process of a launcher that started two.
fn launched(sandbox: &Sandbox, line: &str) -> Run {
    let mut command = sandbox.command(line);
    command.env("OMPI_COMM_WORLD_SIZE", "2").env("OMPI_COMM_WORLD_RANK", "1");
    finish(command, &[])
}

#[test]
fn what_one_process_does_is_refused() {
    let sandbox = Sandbox::new();
    for line in ["train --folds 3", "train --dry-run"] {
        let run = launched(&sandbox, line);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("mpirun (Open MPI) started 2"), "{run:?}");
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_without_mpi_does_not_train_two_models() {
    let sandbox = Sandbox::new();
    let run = launched(&sandbox, "train --epochs 1");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stderr.contains("has started 2 processes") && run.stderr.contains("--features mpi"),
        "{run:?}"
    );
    assert!(!sandbox.path().join("runs").exists());
}
