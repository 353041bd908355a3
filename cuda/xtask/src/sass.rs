//! `cargo xtask sass`: the machine code of every committed kernel, held to the budgets that its source states.

mod budget;
mod listing;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ptx::{Comments, sources};
use crate::ptxas::{self, Usage};
use crate::toolchain::{Toolchain, nvdisasm};
use budget::Budget;
use listing::Listing;

/// What a kernel is made of: fields by the names that budgets and the JSON use, in the order in which they are printed.
pub struct Kernel {
    name: String,
    fields: Vec<(String, u32)>,
}

impl Kernel {
    /// From the assembler's report and the listing of its code.
    fn of(usage: &Usage, listing: &Listing) -> Kernel {
        let resources =
            [("registers", usage.registers), ("spills", usage.spills), ("stack", usage.stack), ("shared", usage.shared)];
        let mut fields: Vec<(String, u32)> = resources.map(|(name, value)| (name.to_string(), value)).into();
        fields.extend(listing.counts().into_iter().map(|(name, count)| (name.to_string(), count)));
        fields.extend(listing.main_loop().counts().into_iter().map(|(name, count)| (format!("loop.{name}"), count)));
        Kernel { name: usage.name.clone(), fields }
    }

    /// A field's value, if there is such a field.
    fn get(&self, field: &str) -> Option<u32> {
        self.fields.iter().find(|(name, _)| name == field).map(|&(_, value)| value)
    }

    fn json(&self, source: &str) -> serde_json::Value {
        let mut line = serde_json::json!({ "source": source, "kernel": self.name });
        for (field, value) in &self.fields {
            match field.split_once('.') {
                Some((group, field)) => line[group][field] = (*value).into(),
                None => line[field] = (*value).into(),
            }
        }
        line
    }

    /// Resources, and what of the rest is there.
    fn text(&self) -> String {
        let shown = self.fields.iter().enumerate().filter(|(i, (_, value))| *i < 4 || *value > 0);
        let shown: Vec<String> = shown.map(|(_, (field, value))| format!("{field} {value}")).collect();
        format!("    {}: {}", self.name, shown.join(", "))
    }
}

/// The task: see the command's help.
pub fn run(args: &[String]) -> Result<(), String> {
    let (mut json, mut check) = (false, false);
    let mut names: Vec<&str> = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--json" => json = true,
            "--check" => check = true,
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}; see `cargo xtask --help`")),
            name => names.push(name),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().map_err(|e| e.to_string())?;
    std::env::set_current_dir(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let (toolchain, nvdisasm) = (Toolchain::find(&root)?, nvdisasm(&root)?);
    let mut problems = Vec::new();
    for source in sources(&names)? {
        let name = source.to_string_lossy();
        let text = fs::read_to_string(&source).map_err(|e| format!("{name}: {e}"))?;
        let budgets = Budget::all(&text).map_err(|e| format!("{name}: {e}"))?;
        let Comments { may_spill, may_complain, .. } = Comments::of(&text, &name)?;
        let cubin = root.join("target/toolchain").join(format!("sass-{}.cubin", std::process::id()));
        let kernels = kernels(&toolchain.ptxas, &nvdisasm, &source.with_extension("ptx"), &cubin);
        let _ = fs::remove_file(&cubin);
        let (kernels, complaints) = kernels.map_err(|e| format!("{name}: {e}"))?;
        let complaints = complaints.into_iter().filter(|complaint| !may_complain.iter().any(|may| complaint.contains(may)));
        problems.extend(complaints.map(|complaint| format!("{name}: {complaint}")));
        if !json {
            println!("{name}");
        }
        for kernel in &kernels {
            println!("{}", if json { kernel.json(&name).to_string() } else { kernel.text() });
            if check && kernel.get("spills") != Some(0) && !may_spill.contains(&kernel.name) {
                problems.push(format!("{name}: {} spills and no comment allows it", kernel.name));
            }
        }
        if check {
            problems.extend(budgets.iter().flat_map(|budget| budget.broken(&kernels)).map(|broken| format!("{name}: {broken}")));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// The kernels of a file, and what ptxas complains of.
fn kernels(ptxas: &Path, nvdisasm: &Path, ptx: &Path, cubin: &Path) -> Result<(Vec<Kernel>, Vec<String>), String> {
    let report = ptxas::assemble(ptxas, ptx, cubin).map_err(|log| format!("ptxas refuses it\n{log}"))?;
    let output = Command::new(nvdisasm).arg("-c").arg(cubin).output().map_err(|e| format!("{}: {e}", nvdisasm.display()))?;
    if !output.status.success() {
        return Err(format!("nvdisasm: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    let listings = Listing::all(&String::from_utf8_lossy(&output.stdout));
    let kernel = |usage: &Usage| listings.iter().find(|l| l.name == usage.name).map(|l| Kernel::of(usage, l));
    // Functions that are called have no section of their own.
    Ok((report.usages.iter().filter_map(kernel).collect(), report.complaints))
}
