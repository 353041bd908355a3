//! One multiprocessor over time, as a picture: the tensor cores, the copies, and a warp of each four, coloured by what it does or
//! waits for.

use std::fmt::Write;

use super::view::{Span, View, What, warp_name};
use super::warp::Why;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 150.0;
const LANE: f64 = 26.0;
const TOP: f64 = 64.0;

/// The colour of a reason to wait.
fn colour(why: Why) -> &'static str {
    match why {
        Why::Issue => "#1f2937",
        Why::Busy => "#9ca3af",
        Why::Register => "#f59e0b",
        Why::Lanes => "#a16207",
        Why::Barrier => "#8b5cf6",
        Why::Cluster => "#6d28d9",
        Why::Mbarrier => "#3b82f6",
        Why::Wgmma => "#10b981",
        Why::Copies => "#06b6d4",
        Why::Stores => "#0e7490",
        Why::Registers => "#ec4899",
        Why::Sleep => "#e5e7eb",
    }
}

/// A lane of the picture: its name, and what fills it.
struct Lane {
    name: String,
    spans: Vec<(u64, u64, &'static str)>,
}

impl View {
    /// The picture as SVG.
    pub(super) fn svg(&self) -> String {
        let last = self.spans.iter().map(|s| s.to).max().unwrap_or(0).min(self.clocks.end);
        let (from, to) = (self.clocks.start, last.max(self.clocks.start + 1));
        let lanes = self.lanes();
        let height = TOP + LANE * lanes.len() as f64 + 70.0;
        let x = |clock: u64| LEFT + (WIDTH - LEFT - 20.0) * clock.saturating_sub(from).min(to - from) as f64 / (to - from) as f64;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"12\" y=\"24\" font-size=\"15\">{}</text>\n<text x=\"12\" y=\"44\" fill=\"#555\">multiprocessor {}, clocks {from} to {to}, \
             foretold</text>\n",
            escaped(&self.title),
            self.sm
        );
        for (i, lane) in lanes.iter().enumerate() {
            let y = TOP + LANE * i as f64;
            let _ = writeln!(out, "<text x=\"12\" y=\"{:.0}\">{}</text>", y + 15.0, lane.name);
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"#f3f4f6\"/>",
                WIDTH - LEFT - 20.0,
                LANE - 6.0
            );
            for (a, b, colour) in merged(&lane.spans, (to - from) / 2000) {
                let (left, right) = (x(a.max(from)), x(b.min(to)));
                let _ = writeln!(
                    out,
                    "<rect x=\"{left:.1}\" y=\"{y}\" width=\"{:.2}\" height=\"{:.0}\" fill=\"{colour}\"/>",
                    (right - left).max(0.3),
                    LANE - 6.0
                );
            }
        }
        let y = TOP + LANE * lanes.len() as f64 + 18.0;
        for tick in 0..=8 {
            let clock = from + (to - from) * tick / 8;
            let _ = writeln!(out, "<text x=\"{:.0}\" y=\"{y:.0}\" fill=\"#555\" text-anchor=\"middle\">{clock}</text>", x(clock));
        }
        let mut left = 12.0;
        for why in Why::ALL {
            if why == Why::Sleep {
                continue;
            }
            let _ = write!(
                out,
                "<rect x=\"{left:.0}\" y=\"{:.0}\" width=\"11\" height=\"11\" fill=\"{}\"/><text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
                y + 18.0,
                colour(why),
                left + 15.0,
                y + 28.0,
                why.name()
            );
            left += 30.0 + 6.6 * why.name().len() as f64;
        }
        out.push_str("\n</svg>\n");
        out
    }

    fn lanes(&self) -> Vec<Lane> {
        let of = |name: &str, keep: &dyn Fn(&Span) -> Option<&'static str>| {
            let spans = self.spans.iter().filter_map(|s| Some((s.from, s.to, keep(s)?))).collect();
            Lane { name: name.into(), spans }
        };
        let product = |s: &Span| match s.what {
            What::Product { warpgroup, .. } => Some(if warpgroup.is_multiple_of(2) { "#059669" } else { "#34d399" }),
            _ => None,
        };
        let copy = |s: &Span| matches!(s.what, What::Copy { .. }).then_some("#0284c7");
        let mut lanes = vec![of("tensor cores", &product), of("copies under way", &copy)];
        lanes.retain(|l| !l.spans.is_empty());
        // A warpgroup's warps do much the same: its first stands for it.
        let mut warps: Vec<(u32, u32)> = self.spans.iter().filter_map(|s| s.what.warp()).filter(|w| w.1 % 4 == 0).collect();
        warps.sort_unstable();
        warps.dedup();
        warps.truncate(16);
        for warp in warps {
            let keep = |s: &Span| match s.what {
                What::Issue { .. } if s.what.warp() == Some(warp) => Some(colour(Why::Issue)),
                What::Wait { why, .. } if s.what.warp() == Some(warp) => Some(colour(why)),
                _ => None,
            };
            lanes.push(of(&warp_name(warp.0, warp.1), &keep));
        }
        lanes
    }
}

/// Neighbours of one colour as one span; what is shorter than `least` clocks goes to what lies before it.
fn merged(spans: &[(u64, u64, &'static str)], least: u64) -> Vec<(u64, u64, &'static str)> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut out: Vec<(u64, u64, &'static str)> = Vec::new();
    for (from, to, colour) in sorted {
        match out.last_mut() {
            Some(last) if from <= last.1 + least && (last.2 == colour || to - from < least) => last.1 = last.1.max(to),
            _ => out.push((from, to, colour)),
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
