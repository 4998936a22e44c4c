//! `ocelli doctor`: what this machine offers and whether everything works on it.

mod check;
mod layers;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;

use ocelli_common::text::printable;
use ocelli_engine::simd::Bf16Isa;
use ocelli_engine::{DotIsa, Isa};
use ocelli_pipeline::{Compute, Data, EvaluateOptions, PipelineError, evaluate, shipped_model};
use serde::Serialize;

use check::{Check, Verdict};

use crate::failure::{Failure, Message};
use crate::output::{Output, Style};

/// How far the built-in model may be from the accuracy it was shipped with: instruction sets round differently, which
/// may turn a handful of 10,000 images over.
const TOLERANCE: f32 = 0.002;

/// Check this machine and this program
///
/// With a model it checks that this machine computes the model as it is defined: every layer's values are compared with
/// those of 64-bit arithmetic, in both forms of convolution. Ends with exit code 1 where something does not work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model file or run folder whose layers are compared with 64-bit arithmetic
    #[arg(short, long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Folder for runs, to be checked for write access
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    version: &'static str,
    ok: bool,
    checks: &'a [Check],
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a layers::Comparison>,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let mut checks = vec![
        build(),
        processor(),
        instructions(),
        threads(),
        memory(),
        run_folder(&args.out),
        built_in_model(),
    ];
    let model = args.model.as_deref().map(layers::Comparison::of).transpose()?;
    checks.extend(model.iter().flat_map(layers::Comparison::checks));
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Failed).count();
    if args.json {
        let version = env!("CARGO_PKG_VERSION");
        let ok = failed == 0;
        out.json(&Record {
            schema: 1,
            r#type: "doctor",
            version,
            ok,
            checks: &checks,
            model: model.as_ref(),
        })?;
    } else {
        for check in &checks {
            let (style, word) = match check.verdict {
                Verdict::Ok => (Style::Green, "ok"),
                Verdict::Warning => (Style::Yellow, "warning"),
                Verdict::Failed => (Style::Red, "failed"),
            };
            let verdict = out.paint.apply(style, format_args!("{word:<7}"));
            out.line(format_args!("{verdict}  {:<14} {}", check.name, printable(&check.detail)))?;
        }
        if let Some(model) = &model {
            model.print(out)?;
        }
    }
    if failed == 0 {
        return Ok(());
    }
    let text = format!("{failed} of {} checks failed", checks.len());
    Err(Failure::Failed(Message { text, hint: Some("each failed line says what is wrong".to_owned()) }))
}

fn build() -> Check {
    let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    if cfg!(debug_assertions) {
        let detail = format!("ocelli {version}, {os} {arch}, debug: slower; build with --release");
        return Check::new("program", Verdict::Warning, detail);
    }
    Check::new("program", Verdict::Ok, format!("ocelli {version}, {os} {arch}"))
}

/// What the processor calls itself, where the system tells.
pub(crate) fn processor_name() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = |line: &str| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned());
    info.lines().find_map(name)
}

fn processor() -> Check {
    let mut detail = processor_name().unwrap_or_else(|| "unknown model".to_owned());
    let features = features();
    if !features.is_empty() {
        detail = format!("{detail}; {}", features.join(" "));
    }
    Check::new("processor", Verdict::Ok, detail)
}

/// Instruction set extensions that matter to a network.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt),+) => { [$(($name, std::arch::is_x86_feature_detected!($name))),+] };
    }
    let all = detected!(
        "avx",
        "fma",
        "avx2",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512bf16"
    );
    all.into_iter().filter(|(_, here)| *here).map(|(name, _)| name).collect()
}

/// Instruction set extensions that matter to a network.
#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt),+) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),+] };
    }
    let all = detected!("neon", "dotprod", "i8mm", "bf16", "sve", "sve2");
    all.into_iter().filter(|(_, here)| *here).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

fn instructions() -> Check {
    let here: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
    match Isa::best() {
        Ok(isa) => {
            let forced =
                if std::env::var_os("OCELLI_ISA").is_some() { "set by OCELLI_ISA" } else { "the fastest" };
            let (half, bytes) = (Bf16Isa::of(isa).name(), DotIsa::of(isa).name());
            let here = here.join(", ");
            let detail = format!("{} ({forced} of {here}), bf16 by {half}, int8 by {bytes}", isa.name());
            Check::new("instructions", Verdict::Ok, detail)
        }
        Err(error) => Check::new("instructions", Verdict::Failed, format!("OCELLI_ISA: {error}")),
    }
}

fn threads() -> Check {
    // The number of cores after affinity and, on Linux, the quota of the control group.
    let usable = available_parallelism().map_or(1, usize::from);
    let quota = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().and_then(|text| cpu_quota(&text));
    let detail = match quota {
        Some(cores) => format!("{usable} usable; the control group allows {cores:.1} cores"),
        None => format!("{usable} usable; no quota"),
    };
    match quota {
        Some(cores) if cores < usable as f64 - 0.5 => {
            let threads = cores.floor().max(1.0);
            let detail = format!("{detail}: --threads {threads} avoids being paused");
            Check::new("threads", Verdict::Warning, detail)
        }
        _ => Check::new("threads", Verdict::Ok, detail),
    }
}

/// Cores allowed by the text of `cpu.max`: `200000 100000` or `max 100000`.
fn cpu_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn memory() -> Check {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let Some(total) = meminfo(&info, "MemTotal:") else {
        return Check::new("memory", Verdict::Ok, "unknown on this system");
    };
    let available = meminfo(&info, "MemAvailable:").unwrap_or(total);
    let mut detail = format!("{:.1} GiB, {:.1} GiB available", gib(total), gib(available));
    // An unlimited control group of version 1 states a number beyond any machine.
    if let Some(limit) = limit.filter(|limit| *limit < total) {
        detail += &format!("; the control group allows {:.1} GiB", gib(limit));
    }
    Check::new("memory", Verdict::Ok, detail)
}

/// Bytes of one line of `/proc/meminfo`, which counts in KiB.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Tries to make a file where runs go: in the folder, or in the nearest one above that exists.
fn run_folder(runs: &Path) -> Check {
    let mut folder = runs;
    while !folder.as_os_str().is_empty() && !folder.exists() {
        folder = folder.parent().unwrap_or(Path::new(""));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let probe = folder.join(format!(".ocelli-doctor-{}", std::process::id()));
    let made =
        OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| fs::remove_file(&probe));
    match made {
        Ok(()) => Check::new("run folder", Verdict::Ok, format!("{} can be written", runs.display())),
        Err(error) => {
            let detail = format!("{}: {error}; choose another place with -o", runs.display());
            Check::new("run folder", Verdict::Failed, detail)
        }
    }
}

/// Runs the built-in model on its test images: program, processor and model give what they gave where it was trained.
fn built_in_model() -> Check {
    const NAME: &str = "built-in model";
    match measure() {
        Ok((measured, Some(stated))) if (measured - stated).abs() > TOLERANCE => {
            let detail =
                format!("test accuracy {measured:.4} instead of {stated:.4}: report this machine as a bug");
            Check::new(NAME, Verdict::Failed, detail)
        }
        Ok((measured, _)) => {
            Check::new(NAME, Verdict::Ok, format!("test accuracy {measured:.4} here, as stated in it"))
        }
        Err(error @ PipelineError::NoShippedModel) => Check::new(NAME, Verdict::Warning, error.to_string()),
        Err(error) => Check::new(NAME, Verdict::Failed, ocelli_common::text::chain(&error)),
    }
}

fn measure() -> Result<(f32, Option<f32>), PipelineError> {
    let model = shipped_model()?;
    let stated = model.meta.metrics.as_ref().filter(|metrics| metrics.split == "test").map(|m| m.accuracy);
    let options = EvaluateOptions {
        data: Data::Bundled,
        split: None,
        compute: Compute::default(),
        max_bad: 0.0,
        mirror: false,
    };
    let evaluation = evaluate(&model, &options, &AtomicBool::new(false), &mut |_| {})?;
    Ok((evaluation.accuracy, stated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_control_groups_are_read() {
        assert_eq!(cpu_quota("150000 100000\n"), Some(1.5));
        assert_eq!(cpu_quota("max 100000\n"), None);
        assert_eq!(cpu_quota(""), None);
        assert_eq!(meminfo("MemTotal:  2048 kB\nMemAvailable: 1 kB\n", "MemTotal:"), Some(2 << 20));
    }
}
