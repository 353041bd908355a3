//! `cargo xtask foretold`: the times that `ptxi time` foretells, held against published speeds of public kernels.
//!
//! `benches/foretold/points.toml` says what is known of each kernel. Their launch files and PTX are made from the projects' own sources and
//! come from a folder that is not of this repository.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// What is known of the points; their launch files are elsewhere.
const MANIFEST: &str = "benches/foretold/points.toml";
const TABLE: &str = "benches/results/foretold.md";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    point: Vec<Point>,
}

/// A kernel with a published speed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    /// The folder of its `launch.json`.
    name: String,
    /// `owner/name` and commit.
    project: String,
    commit: String,
    /// Which kernel it is, and its shape.
    kernel: String,
    shape: String,
    /// Operations, where the speed is in TFLOP/s, and bytes, where it is in GB/s.
    flops: Option<f64>,
    bytes: Option<f64>,
    published: f64,
    /// Where that was published.
    source: String,
    card: String,
    /// Whether constants of the card were adjusted to it.
    fitted: bool,
    /// Points of one ladder should come out in the order in which they were published.
    ladder: Option<String>,
    /// What is known about the difference.
    note: Option<String>,
}

impl Point {
    /// A time in microseconds as a speed in the unit in which the point's was published.
    fn speed(&self, us: f64) -> f64 {
        match (self.flops, self.bytes) {
            (Some(flops), _) => flops / us / 1e6,
            (None, Some(bytes)) => bytes / us / 1e3,
            (None, None) => us,
        }
    }

    fn unit(&self) -> &'static str {
        match (self.flops, self.bytes) {
            (Some(_), _) => "TFLOP/s",
            (None, Some(_)) => "GB/s",
            (None, None) => "us",
        }
    }

    /// The foretold time of all its launches together, in microseconds.
    fn foretell(&self, ptxi: &Path, folder: &Path) -> Result<f64, String> {
        let path = folder.join(&self.name).join("launch.json");
        let done = Command::new(ptxi).arg("time").arg(&path).args(["--card", &self.card, "--json"]).output();
        let done = done.map_err(|e| format!("{}: {e}", ptxi.display()))?;
        if !done.status.success() {
            return Err(format!("{}: {}", self.name, String::from_utf8_lossy(&done.stderr).trim()));
        }
        total(&String::from_utf8_lossy(&done.stdout)).map_err(|e| format!("{}: {e}", self.name))
    }
}

/// The microseconds of all launches, of what `ptxi time --json` prints: a line for each.
fn total(lines: &str) -> Result<f64, String> {
    #[derive(Deserialize)]
    struct Foretold {
        us: f64,
    }
    let time = |line: &str| serde_json::from_str::<Foretold>(line).map(|f| f.us).map_err(|e| format!("{line}: {e}"));
    lines.lines().map(time).sum()
}

/// A point with what came of it.
struct Outcome<'a> {
    point: &'a Point,
    us: f64,
}

impl Outcome<'_> {
    /// How much faster it is foretold than published, as a share.
    fn error(&self) -> f64 {
        let speed = self.point.speed(self.us);
        match self.point.unit() {
            "us" => self.point.published / speed - 1.0,
            _ => speed / self.point.published - 1.0,
        }
    }
}

/// The task: see the command's help.
pub fn run(args: &[String]) -> Result<(), String> {
    let (folder, only, check) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--points", folder] => (folder, None, false),
        ["--points", folder, "--check"] => (folder, None, true),
        ["--points", folder, "--only", name] => (folder, Some(name), false),
        _ => return Err("foretold takes --points FOLDER, and --check or --only NAME; see `cargo xtask --help`".into()),
    };
    let folder = std::path::absolute(folder).map_err(|e| format!("{folder}: {e}"))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().map_err(|e| e.to_string())?;
    std::env::set_current_dir(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let ptxi = ptxi()?;
    let points: Vec<Point> =
        manifest(&read(MANIFEST)?)?.into_iter().filter(|p| only.is_none_or(|o| p.name.contains(o))).collect();
    let (mut results, mut failed) = (Vec::new(), Vec::new());
    // One after the other: a large launch takes gigabytes.
    for point in &points {
        match point.foretell(&ptxi, &folder) {
            Ok(us) => {
                let Point { name, published, .. } = point;
                eprintln!("{name}: {us:.1} us, {:.1} {} ({published} published)", point.speed(us), point.unit());
                results.push(Outcome { point, us });
            }
            Err(e) => failed.push(e),
        }
    }
    if !failed.is_empty() {
        return Err(failed.join("\n"));
    }
    let text = table(&results);
    match (only, check) {
        (Some(_), _) => print!("{text}"),
        (None, false) => {
            let written = fs::create_dir_all("benches/results").and_then(|()| fs::write(TABLE, &text));
            written.map_err(|e| format!("{TABLE}: {e}"))?;
        }
        (None, true) if read(TABLE)? == text => {}
        (None, true) => {
            return Err(format!("{TABLE} is not what the model gives; write it anew: cargo xtask foretold --points FOLDER"));
        }
    }
    Ok(())
}

/// `ptxi`, built now.
fn ptxi() -> Result<std::path::PathBuf, String> {
    let args = ["build", "--quiet", "--release", "--package", "scratchwork-ptx", "--bin", "ptxi", "--message-format", "json"];
    let done = Command::new(env!("CARGO")).args(args).stderr(std::process::Stdio::inherit()).output();
    let done = done.map_err(|e| format!("cargo: {e}"))?;
    let executable = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["executable"].as_str().map(Into::into);
    let found = String::from_utf8_lossy(&done.stdout).lines().filter_map(executable).next_back();
    found.filter(|_| done.status.success()).ok_or_else(|| "ptxi cannot be built".into())
}

fn manifest(text: &str) -> Result<Vec<Point>, String> {
    toml::from_str::<Manifest>(text).map(|m| m.point).map_err(|e| format!("{MANIFEST}: {e}"))
}

fn read(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))
}

/// Mean absolute error.
fn mean<'a>(results: impl Iterator<Item = &'a Outcome<'a>>) -> (f64, usize) {
    let errors: Vec<f64> = results.map(|r| r.error().abs()).collect();
    (errors.iter().sum::<f64>() / errors.len().max(1) as f64, errors.len())
}

fn table(results: &[Outcome<'_>]) -> String {
    let mut text = String::from(HEAD);
    for r in results {
        let Point { name, project, commit, kernel, shape, published, card, fitted, .. } = r.point;
        let (speed, unit) = (r.point.speed(r.us), r.point.unit());
        let fitted = if *fitted { "yes" } else { "" };
        let error = 100.0 * r.error();
        let _ = writeln!(
            text,
            "| `{name}` | {kernel} | {project} {commit} | {shape} | {card} | {published} {unit} | {speed:.1} | {error:+.1} % | {fitted} |"
        );
    }
    let (all, [fitted, free]) =
        (mean(results.iter()), [true, false].map(|f| mean(results.iter().filter(|r| r.point.fitted == f))));
    let _ = write!(text, "\n| mean absolute error | |\n|---|---|\n");
    for (what, (error, n)) in [("points that were not fitted", free), ("fitted points", fitted), ("all", all)] {
        let _ = writeln!(text, "| {what} ({n}) | {:.1} % |", 100.0 * error);
    }
    if let Some(worst) = results.iter().max_by(|a, b| a.error().abs().total_cmp(&b.error().abs())) {
        let _ = writeln!(text, "\nThe worst is `{}`, {:+.1} %.", worst.point.name, 100.0 * worst.error());
    }
    let mut ladders: BTreeMap<&str, Vec<&Outcome<'_>>> = BTreeMap::new();
    for r in results {
        if let Some(ladder) = &r.point.ladder {
            ladders.entry(ladder).or_default().push(r);
        }
    }
    for (name, mut rungs) in ladders {
        let _ = writeln!(text, "\n{}", order(name, &mut rungs));
    }
    let notes: Vec<&Outcome<'_>> = results.iter().filter(|r| r.point.note.is_some()).collect();
    if !notes.is_empty() {
        text.push_str("\n## Notes\n\n");
    }
    for r in notes {
        let _ = writeln!(text, "* `{}`: {}", r.point.name, r.point.note.as_deref().unwrap_or_default());
    }
    text.push_str("\n## Sources\n\n");
    let mut sources: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for r in results {
        sources.entry(&r.point.source).or_default().push(format!("`{}`", r.point.name));
    }
    for (source, names) in sources {
        let _ = writeln!(text, "* {source}: {}", names.join(", "));
    }
    text
}

/// Whether the rungs of a ladder come in the order in which they were published; pairs that do not are named.
fn order(name: &str, rungs: &mut [&Outcome<'_>]) -> String {
    rungs.sort_by(|a, b| a.point.published.total_cmp(&b.point.published));
    let speed = |r: &Outcome<'_>| r.point.speed(r.us);
    let wrong =
        |p: &[&Outcome<'_>]| (speed(p[0]) > speed(p[1])).then(|| format!("`{}` before `{}`", p[0].point.name, p[1].point.name));
    let wrong: Vec<String> = rungs.windows(2).filter_map(wrong).collect();
    match wrong.is_empty() {
        true => format!("Order of {name}: as published."),
        false => format!("Order of {name}: not as published for {}.", wrong.join(", ")),
    }
}

const HEAD: &str = "\
# Foretold and published speeds of public kernels

Made by `cargo xtask foretold --points FOLDER` from `benches/foretold/points.toml` and the launch files in the folder; what the model
holds and leaves out is in the documentation of `ptx::time`. **Every speed under \"foretold\" is foretold, none was measured here.** An error above
zero: foretold faster than published. Constants of the cards were adjusted to the points marked so, and to no other.

| point | kernel | from | shape | card | published | foretold | error | fitted |
|---|---|---|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, published: f64, flops: Option<f64>, bytes: Option<f64>) -> Point {
        let [project, commit, kernel, shape, source, card] = ["p", "c", "k", "s", "w", "h100-sxm"].map(String::from);
        let ladder = Some("a ladder".to_string());
        let name = name.to_string();
        Point { name, project, commit, kernel, shape, flops, bytes, published, source, card, fitted: false, ladder, note: None }
    }

    #[test]
    fn errors_are_positive_where_the_model_is_too_fast() {
        let work = point("gemm", 500.0, Some(1e12), None);
        let copy = point("copy", 2000.0, None, Some(4e9));
        let time = point("time", 10.0, None, None);
        let error = |point: &Point, us: f64| Outcome { point, us }.error();
        assert!((error(&work, 1600.0) - 0.25).abs() < 1e-12, "625 TFLOP/s instead of 500");
        assert!((error(&copy, 2500.0) + 0.2).abs() < 1e-12, "1600 GB/s instead of 2000");
        assert!((error(&time, 8.0) - 0.25).abs() < 1e-12, "8 us instead of 10");
    }

    #[test]
    fn the_launches_of_a_file_count_together() {
        assert_eq!(total("{\"us\":1.5,\"card\":\"h200\"}\n{\"us\":2}\n"), Ok(3.5));
        assert!(total("{\"clocks\":1}\n").unwrap_err().contains("missing field `us`"));
    }

    #[test]
    fn a_ladder_out_of_order_is_named() {
        let points = [point("first", 100.0, Some(1e12), None), point("second", 200.0, Some(1e12), None)];
        let table = |us: [f64; 2]| table(&[Outcome { point: &points[0], us: us[0] }, Outcome { point: &points[1], us: us[1] }]);
        assert!(table([9000.0, 5100.0]).contains("Order of a ladder: as published."));
        let wrong = table([4000.0, 5100.0]);
        assert!(wrong.contains("not as published for `first` before `second`"), "{wrong}");
        assert!(wrong.contains("The worst is `first`, +150.0 %."), "{wrong}");
        assert!(wrong.contains("points that were not fitted (2)"), "{wrong}");
    }

    #[test]
    fn the_manifest_names_at_least_as_many_points_as_are_promised() {
        let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/foretold/points.toml"))
            .expect("it is there");
        let points = super::manifest(&manifest).expect("it is read");
        let projects: std::collections::BTreeSet<&str> = points.iter().map(|p| p.project.as_str()).collect();
        let names: std::collections::BTreeSet<&str> = points.iter().map(|p| p.name.as_str()).collect();
        assert!(points.len() >= 16 && projects.len() >= 5 && names.len() == points.len(), "{} of {projects:?}", points.len());
        assert!(points.iter().all(|p| ["h100-sxm", "h100-pcie", "h800", "h200"].contains(&p.card.as_str()) && p.published > 0.0));
        assert!(2 * points.iter().filter(|p| p.fitted).count() <= points.len(), "more than half are fitted");
    }
}
