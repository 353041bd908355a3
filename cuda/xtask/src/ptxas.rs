//! The assembler's report: what each kernel needs of an SM, and what ptxas had to give up.

use std::path::Path;
use std::process::Command;

/// What `ptxas -v` says of one kernel or function.
pub struct Usage {
    /// The name in the PTX.
    pub name: String,
    /// Registers a thread.
    pub registers: u32,
    /// Static shared memory.
    pub shared: u32,
    /// Local memory a thread.
    pub stack: u32,
    /// Bytes a thread that do not fit the registers, stores and loads.
    pub spills: u32,
}

/// What ptxas says of a file.
pub struct Report {
    /// Of each kernel and function.
    pub usages: Vec<Usage>,
    /// Warnings, and remarks that have a number: C7510 says that products of a warpgroup wait for each other.
    pub complaints: Vec<String>,
}

/// Assembles `ptx` for sm_90a into `cubin`.
pub fn assemble(ptxas: &Path, ptx: &Path, cubin: &Path) -> Result<Report, String> {
    let output = Command::new(ptxas)
        .args(["-v", "-arch=sm_90a", "-o"])
        .args([cubin, ptx])
        .output()
        .map_err(|e| format!("{}: {e}", ptxas.display()))?;
    let report = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if output.status.success() { Ok(parse(&report)) } else { Err(report.trim_end().to_string()) }
}

/// The report names a function in one line, its stack and spills in the next and, for a kernel, its registers in a third.
fn parse(report: &str) -> Report {
    let mut all: Vec<Usage> = Vec::new();
    let complaints = report.lines().filter(|line| complains(line)).map(|line| line.trim().to_string()).collect();
    for line in report.lines() {
        if let Some(name) = line.split("Function properties for ").nth(1) {
            let name = name.trim().to_string();
            all.push(Usage { name, registers: 0, shared: 0, stack: 0, spills: 0 });
        }
        let Some(last) = all.last_mut() else { continue };
        last.stack = last.stack.max(number_before(line, " bytes stack frame"));
        last.spills += number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
        last.registers = last.registers.max(number_before(line, " registers"));
        last.shared = last.shared.max(number_before(line, " bytes smem"));
    }
    Report { usages: all, complaints }
}

fn complains(line: &str) -> bool {
    let numbered = line.split("(C").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    line.starts_with("ptxas") && (numbered || line.split(':').next().is_some_and(|level| level.contains("warning")))
}

fn number_before(line: &str, words: &str) -> u32 {
    let Some(at) = line.find(words) else { return 0 };
    let digits = line[..at].rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn spills_and_registers_are_read() {
        let report = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem, 8 bytes cmem[0]
ptxas info    : Function properties for f
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
";
        let all = parse(report).usages;
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].name.as_str(), all[0].registers, all[0].shared, all[0].stack, all[0].spills), ("k", 40, 512, 16, 20));
        assert_eq!((all[1].name.as_str(), all[1].spills), ("f", 0));
        assert!(parse(report).complaints.is_empty());
    }

    #[test]
    fn what_ptxas_gave_up_is_a_complaint() {
        let report = "\
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient registers
ptxas warning : Value of threads per SM for entry k is out of range. .minnctapersm will be ignored
ptxas info    : Used 40 registers
";
        assert_eq!(parse(report).complaints.len(), 2);
    }
}
