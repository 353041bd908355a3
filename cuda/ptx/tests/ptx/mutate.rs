//! Damage to the synchronisation of a kernel, one place at a time, in the text of its PTX.

/// A kernel with one thing wrong.
pub struct Mutant {
    /// What was done.
    pub operator: &'static str,
    /// The instruction it was done to.
    pub instruction: String,
    /// Its line in the PTX, from 1.
    pub line: usize,
    /// The line of the `.cu` that the last `.loc` before it names.
    pub source: u32,
    /// The whole module.
    pub text: String,
}

/// Instructions whose removal leaves a kernel that still assembles.
const REMOVABLE: [&str; 15] = [
    "bar.sync",
    "bar.arrive",
    "bar.warp.sync",
    "barrier.cluster.arrive",
    "barrier.cluster.wait",
    "membar",
    "fence",
    "wgmma.fence",
    "wgmma.commit_group",
    "wgmma.wait_group",
    "cp.async.commit_group",
    "cp.async.wait_group",
    "cp.async.bulk.commit_group",
    "cp.async.bulk.wait_group",
    "mbarrier.init",
];

/// Every mutant of `entry`.
pub fn mutants(module: &str, entry: &str) -> Vec<Mutant> {
    let lines: Vec<&str> = module.lines().collect();
    let start = lines.iter().position(|l| l.contains(".entry") && l.contains(&format!("{entry}("))).expect("the entry");
    let end = lines[start + 1..].iter().position(|l| l.contains(".entry")).map_or(lines.len(), |n| start + 1 + n);
    let mut all = Vec::new();
    let mut source = 0;
    for i in start..end {
        let line = lines[i].trim();
        if let Some(loc) = line.strip_prefix(".loc") {
            source = loc.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(source);
        }
        for (operator, replacement) in damage(line) {
            let mut text = lines.clone();
            text[i] = &replacement;
            all.push(Mutant { operator, instruction: line.to_string(), line: i + 1, source, text: text.join("\n") });
        }
    }
    all
}

/// What can be done to one line.
fn damage(line: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let opcode = line.split_whitespace().next().unwrap_or("").trim_end_matches(';');
    if REMOVABLE.iter().any(|r| opcode.starts_with(r)) || opcode.starts_with("mbarrier.arrive") {
        all.push(("removed", String::new()));
    }
    let Some(body) = line.strip_suffix(';') else { return all };
    let (head, last) = body.rsplit_once([' ', '\t']).unwrap_or((body, ""));
    if opcode.contains("wait_group")
        && let Ok(n) = last.parse::<u32>()
    {
        all.push(("waits for one group fewer", format!("{head} {};", n + 1)));
    }
    if opcode.starts_with("mbarrier.init") {
        all.push(("count + 1", with_last(body, "add.s32", "1")));
        all.push(("count - 1", with_last(body, "add.s32", "-1")));
    }
    if opcode.starts_with("mbarrier.arrive.expect_tx") {
        all.push(("expects 16 bytes more", with_last(body, "add.s32", "16")));
        all.push(("expects 16 bytes fewer", with_last(body, "add.s32", "-16")));
        let plain = body.replace(".expect_tx", "");
        all.push(("expects no bytes", format!("{};", plain.rsplit_once(',').expect("a byte count").0)));
    }
    if opcode.starts_with("mbarrier.try_wait.parity") {
        all.push(("phase flipped", with_last(body, "xor.b32", "1")));
        let predicate = line.split_whitespace().nth(1).expect("a predicate").trim_end_matches(',');
        all.push(("removed", format!("setp.eq.u32 {predicate}, 0, 0;")));
    }
    if opcode.starts_with("setmaxnreg")
        && let Ok(n) = last.parse::<u32>()
    {
        all.push(("8 registers more", format!("{head} {};", n + 8)));
    }
    // The constant part of a matrix descriptor with the 128-byte swizzle.
    if opcode == "or.b64"
        && let Ok(bits) = last.parse::<u64>()
        && bits >> 62 == 1
    {
        all.push(("another swizzle", format!("{head} {:#x};", bits + (1 << 62))));
    }
    if let Some(p) = body.trim().strip_prefix("elect.sync").and_then(|rest| rest.split(['|', ',']).nth(1)) {
        all.push(("every lane is elected", format!("setp.eq.u32 {}, 0, 0;", p.trim())));
    }
    if opcode == "membar.gl" {
        all.push(("in the CTA only", "membar.cta;".into()));
    }
    for ordered in [".acquire.gpu", ".release.gpu"] {
        if opcode.contains(ordered) && !opcode.starts_with("fence") {
            all.push(("relaxed", line.replacen(ordered, ".relaxed.gpu", 1)));
        }
    }
    if opcode.contains(".volatile") {
        all.push(("weak", line.replacen(".volatile", "", 1)));
    }
    all
}

/// The instruction with its last operand changed first.
fn with_last(body: &str, change: &str, by: &str) -> String {
    let (head, last) = body.rsplit_once([',', ' ', '\t']).expect("an operand");
    let separator = if body[head.len()..].starts_with(',') { ", " } else { " " };
    format!("{{ .reg .b32 mutant; mov.b32 mutant, {}; {change} mutant, mutant, {by}; {head}{separator}mutant; }}", last.trim())
}
