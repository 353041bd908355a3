//! Line charts as SVG text: sharp at any size, light and dark by the reader's preference, values under the pointer, no script.

use std::fmt::Write;

/// The colours and type of a chart, shared by the report and by a chart that stands alone.
pub const STYLE: &str = include_str!("report/chart.css");

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 0.5 is written 50 %, and the axis ends at 100 %.
    Share,
    /// As it is.
    Number,
}

impl Unit {
    /// A value for a reader, with three digits that count.
    pub fn format(self, v: f64) -> String {
        match self {
            Self::Share if (0.01..0.9995).contains(&v) => format!("{:.1}\u{202f}%", v * 100.0),
            _ => self.tick(v),
        }
    }

    /// A value beside an axis, where there is room for six characters: without trailing zeros.
    fn tick(self, v: f64) -> String {
        match self {
            Self::Share if v.abs() < 0.01 => format!("{}\u{202f}%", trim(v * 100.0, 3)),
            Self::Share => format!("{}\u{202f}%", trim(v * 100.0, 1)),
            Self::Number if v != 0.0 && v.abs() < 1e-3 => format!("{v:.1e}"),
            Self::Number if v.abs() < 0.1 => trim(v, 4),
            Self::Number if v.abs() < 1.0 => trim(v, 3),
            Self::Number if v.abs() < 10.0 => trim(v, 2),
            Self::Number if v.abs() < 100.0 => trim(v, 1),
            Self::Number if v.abs() < 1e3 => trim(v, 0),
            Self::Number if v.abs() < 1e6 => format!("{}\u{202f}k", self.tick(v / 1e3)),
            Self::Number => format!("{}\u{202f}M", self.tick(v / 1e6)),
        }
    }
}

/// 1234567 as 1,234,567.
pub fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::from(if n < 0 { "-" } else { "" });
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn trim(v: f64, decimals: usize) -> String {
    let text = format!("{v:.decimals$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// A value at a place, with its interval if it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// The confidence interval.
    pub ci: Option<[f64; 2]>,
}

impl Point {
    /// A value without an interval.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, ci: None }
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// A line through the values.
    Line,
    /// A dot and an interval at each value, for measurements too far apart to guess what lies between.
    Dots,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is called in the legend.
    pub name: String,
    /// Which of the colours 0 to 5.
    pub color: usize,
    pub ink: Ink,
    /// Its values from left to right.
    pub points: Vec<Point>,
}

impl Series {
    /// Averages neighbours until at most `most` points are left, for a line of a thousand steps.
    pub fn thinned(mut self, most: usize) -> Self {
        let width = self.points.len().div_ceil(most.max(1)).max(1);
        let mean = |c: &[Point]| {
            let n = c.len() as f64;
            Point::new(c[c.len() - 1].x, c.iter().map(|p| p.y).sum::<f64>() / n)
        };
        if width > 1 {
            self.points = self.points.chunks(width).map(mean).collect();
        }
        self
    }
}

/// An event: a dashed line across the panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub x: f64,
    pub label: String,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What is measured.
    pub title: String,
    pub unit: Unit,
    /// What the horizontal axis counts; empty leaves its labels out, for a panel with another below it.
    pub x_label: String,
    pub marks: Vec<Mark>,
    /// The lines, the last on top.
    pub series: Vec<Series>,
}

/// Distances in a chart, in pixels.
const LEFT: f64 = 50.0;
const TOP: f64 = 34.0;

/// Draws panels one below the other over a common horizontal axis, `width` pixels wide and `height` pixels each.
///
/// `alone` makes a file of its own, with style and background; otherwise the page brings [`STYLE`], and values show under the
/// pointer.
pub fn svg(panels: &[Panel], width: f64, height: f64, alone: bool) -> String {
    let points = || panels.iter().flat_map(|p| &p.series).flat_map(|s| &s.points);
    let x_min = points().map(|p| p.x).fold(f64::INFINITY, f64::min);
    let x_max = points().map(|p| p.x).fold(f64::NEG_INFINITY, f64::max);
    // Names stand at the ends of the lines where there is room for them, else above the panel.
    let names_at_end = width > 600.0;
    let right = if names_at_end { 136.0 } else { 14.0 };
    let pad = if alone { 16.0 } else { 0.0 };

    let mut body = String::new();
    let mut y = pad;
    for panel in panels {
        let bottom = if panel.x_label.is_empty() { 14.0 } else { 40.0 };
        let frame = Frame {
            x: (x_min, if x_max > x_min { x_max } else { x_min + 1.0 }),
            y: axis(panel),
            left: pad + LEFT,
            right: width - pad - right,
            top: y + TOP,
            bottom: y + height - bottom,
        };
        frame.draw(&mut body, panel, names_at_end, !alone);
        y += height;
    }
    let total = y + pad;
    let style = if alone {
        let back = format!(r#"<rect class="back" width="{width}" height="{total}" rx="10"/>"#);
        format!("<style>{STYLE}</style>{back}")
    } else {
        String::new()
    };
    let alt: Vec<_> = panels.iter().map(|p| escape(&p.title)).collect();
    format!(
        r#"<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" role="img" aria-label="{}">{style}{body}</svg>"#,
        alt.join("; ")
    )
}

/// The range of the vertical axis and the distance of its lines.
fn axis(panel: &Panel) -> (f64, f64, f64) {
    let ends = |p: &Point| p.ci.map_or([p.y, p.y], |[low, high]| [low.min(p.y), high.max(p.y)]);
    let values = || panel.series.iter().flat_map(|s| &s.points).flat_map(ends);
    let low = values().fold(0.0, f64::min);
    let mut high = values().fold(low, f64::max);
    if panel.unit == Unit::Share && high > 0.3 {
        return (0.0, 1.0, 0.25);
    }
    if high == low {
        high = low + 1.0;
    }
    let step = nice((high - low) / 4.0);
    ((low / step).floor() * step, (high / step).ceil() * step, step)
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(v: f64) -> f64 {
    let power = 10f64.powf(v.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= v * 0.999);
    factor.unwrap_or(10.0) * power
}

/// A panel's place on the page and its ranges.
struct Frame {
    x: (f64, f64),
    y: (f64, f64, f64),
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn px(&self, x: f64) -> f64 {
        self.left + (x - self.x.0) / (self.x.1 - self.x.0) * (self.right - self.left)
    }

    fn py(&self, y: f64) -> f64 {
        self.bottom - (y - self.y.0) / (self.y.1 - self.y.0) * (self.bottom - self.top)
    }

    fn draw(&self, out: &mut String, panel: &Panel, names_at_end: bool, hover: bool) {
        self.axes(out, panel);
        for mark in &panel.marks {
            let x = self.px(mark.x);
            let (top, bottom) = (self.top, self.bottom);
            let _ = write!(out, r#"<path class="mark" d="M{x:.1} {top:.1}V{bottom:.1}"/>"#);
            let (anchor, x) = if x > (self.left + self.right) / 2.0 { ("end", x - 6.0) } else { ("start", x + 6.0) };
            let y = bottom - 8.0;
            text(out, "note", anchor, x, y, &mark.label);
        }
        for series in &panel.series {
            match series.ink {
                Ink::Line => self.line(out, series),
                Ink::Dots => self.dots(out, series, panel.unit),
            }
        }
        self.names(out, panel, names_at_end);
        if hover {
            self.readout(out, panel);
        }
    }

    fn axes(&self, out: &mut String, panel: &Panel) {
        text(out, "title", "start", self.left - LEFT, self.top - 18.0, &panel.title);
        let (low, high, step) = self.y;
        for i in 0..=((high - low) / step).round() as usize {
            let value = low + i as f64 * step;
            let y = self.py(value);
            let (left, right) = (self.left, self.right);
            let class = if value == 0.0 { "axis" } else { "grid" };
            let _ = write!(out, r#"<path class="{class}" d="M{left:.1} {y:.1}H{right:.1}"/>"#);
            text(out, "tick", "end", left - 7.0, y + 4.0, &panel.unit.tick(value));
        }
        if panel.x_label.is_empty() {
            return;
        }
        let step = nice((self.x.1 - self.x.0) / if self.right - self.left > 500.0 { 8.0 } else { 4.0 }).max(1.0);
        let mut x = (self.x.0 / step).ceil() * step;
        while x <= self.x.1 {
            text(out, "tick", "middle", self.px(x), self.bottom + 17.0, &grouped(x as i64));
            x += step;
        }
        text(out, "note", "end", self.right, self.bottom + 33.0, &panel.x_label);
    }

    fn line(&self, out: &mut String, series: &Series) {
        let color = series.color;
        let mut path = String::new();
        for (i, p) in series.points.iter().enumerate() {
            let to = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{to}{:.1} {:.1}", self.px(p.x), self.py(p.y));
        }
        let _ = write!(out, r#"<path class="line s{color}" d="{path}"/>"#);
    }

    fn dots(&self, out: &mut String, series: &Series, unit: Unit) {
        let color = series.color;
        for p in &series.points {
            let (x, y) = (self.px(p.x), self.py(p.y));
            if let Some([low, high]) = p.ci {
                let (y0, y1) = (self.py(low), self.py(high));
                let _ = write!(out, r#"<path class="whisker s{color}" d="M{x:.1} {y0:.1}V{y1:.1}"/>"#);
            }
            let _ = write!(out, r#"<circle class="dot f{color}" cx="{x:.1}" cy="{y:.1}" r="4.5"/>"#);
        }
        // The first value in words; the last stands with the name.
        if let (Some(p), false) = (series.points.first(), series.name.is_empty()) {
            let class = format!("name f{color}");
            text(out, &class, "start", self.px(p.x) + 9.0, self.py(p.y) + 13.0, &unit.format(p.y));
        }
    }

    fn names(&self, out: &mut String, panel: &Panel, at_end: bool) {
        if panel.series.len() < 2 && !at_end {
            return;
        }
        if at_end {
            // From the top down, each at least a line of text below the one before.
            let named = panel.series.iter().filter(|s| !s.name.is_empty());
            let mut ends: Vec<_> = named.filter_map(|s| Some((self.py(s.points.last()?.y), s))).collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut free = self.top - 4.0;
            let room = |i: usize| self.bottom - 15.0 * (ends.len() - 1 - i) as f64;
            for (i, (y, s)) in ends.iter().enumerate() {
                let y = y.max(free).min(room(i).max(free));
                free = y + 15.0;
                let words = match (s.ink, s.points.last()) {
                    (Ink::Dots, Some(p)) => format!("● {} {}", s.name, panel.unit.format(p.y)),
                    _ => s.name.clone(),
                };
                text(out, &format!("name f{}", s.color), "start", self.right + 12.0, y + 4.0, &words);
            }
            return;
        }
        let mut x = self.right;
        for s in panel.series.iter().rev() {
            text(out, &format!("name f{}", s.color), "end", x, self.top - 18.0, &s.name);
            x -= 7.2 * s.name.chars().count() as f64 + 12.0;
        }
    }

    /// A strip for each place that has a value: under the pointer it shows a line and the values there.
    fn readout(&self, out: &mut String, panel: &Panel) {
        let mut places: Vec<f64> = panel.series.iter().flat_map(|s| s.points.iter().map(|p| p.x)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        for (i, &x) in places.iter().enumerate() {
            let left = if i == 0 { self.left } else { self.px((places[i - 1] + x) / 2.0) };
            let right = places.get(i + 1).map_or(self.right, |next| self.px((x + next) / 2.0));
            let mut said = format!("step {x}");
            let mut dots = String::new();
            for s in &panel.series {
                let Some(p) = s.points.iter().find(|p| p.x == x) else { continue };
                let name = if panel.series.len() > 1 { format!("{} ", s.name) } else { String::new() };
                let _ = write!(said, " · {name}{}", panel.unit.format(p.y));
                if let Some(ci) = p.ci {
                    let [low, high] = ci.map(|v| panel.unit.format(v));
                    let _ = write!(said, " ({low} to {high})");
                }
                let (cx, cy) = (self.px(p.x), self.py(p.y));
                let _ = write!(dots, r#"<circle class="f{}" cx="{cx:.1}" cy="{cy:.1}" r="3"/>"#, s.color);
            }
            let (top, bottom, width, at) = (self.top, self.bottom, right - left, self.px(x));
            let height = bottom - top;
            let _ = write!(
                out,
                r#"<g class="hover"><rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"/><path d="M{at:.1} {top:.1}V{bottom:.1}"/>{dots}"#
            );
            text(out, "readout", "end", self.right, top - 4.0, &said);
            out.push_str("</g>");
        }
    }
}

fn text(out: &mut String, class: &str, anchor: &str, x: f64, y: f64, words: &str) {
    let words = escape(words);
    let _ = write!(out, r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{words}</text>"#);
}

/// Makes text safe inside an element or a quoted attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        let said = [0.891, 0.79, 0.0005, 1.0, 0.0].map(|v| Unit::Share.format(v));
        assert_eq!(said, ["89.1\u{202f}%", "79.0\u{202f}%", "0.05\u{202f}%", "100\u{202f}%", "0\u{202f}%"]);
        assert_eq!(Unit::Share.tick(0.25), "25\u{202f}%");
        let said = [0.0, 0.0431, 0.7114, 3.5, 36.42, 117.6, 2e-4].map(|v| Unit::Number.format(v));
        assert_eq!(said, ["0", "0.0431", "0.711", "3.5", "36.4", "118", "2.0e-4"]);
        let beside = [0.0, 250.0, 1_500.0, 60_000.0, 2_500_000.0].map(|v| Unit::Number.tick(v));
        assert_eq!(Unit::Number.format(36_107.2), "36.1\u{202f}k");
        assert_eq!(beside, ["0", "250", "1.5\u{202f}k", "60\u{202f}k", "2.5\u{202f}M"]);
        assert_eq!([0, 999, 1_000, -1_234_567].map(grouped), ["0", "999", "1,000", "-1,234,567"]);
    }

    #[test]
    fn axes_hold_every_value_and_interval() {
        for values in [vec![0.0], vec![0.12, 0.9], vec![-3.0, 7.0], vec![36.0, 152.0], vec![1e-9, 2e-9]] {
            let width = |y: f64| 0.1 * y.abs();
            let interval = |y: f64| Point { x: 0.0, y, ci: Some([y - width(y), y + width(y)]) };
            let points = values.iter().map(|&y| interval(y)).collect();
            let series = vec![Series { name: String::new(), color: 0, ink: Ink::Line, points }];
            let panel = Panel { title: String::new(), unit: Unit::Number, x_label: String::new(), marks: vec![], series };
            let (low, high, step) = axis(&panel);
            let lines = (high - low) / step;
            assert!(values.iter().all(|&v| low <= v - width(v) && v + width(v) <= high), "{values:?} in {low}..{high}");
            assert!((1.0..=6.0).contains(&lines.round()) && (lines - lines.round()).abs() < 1e-6, "{lines} lines");
        }
    }

    #[test]
    fn a_long_line_is_thinned_without_changing_its_mean() {
        let points = (0..1000).map(|i| Point::new(i as f64, (i % 7) as f64)).collect();
        let series = Series { name: String::new(), color: 0, ink: Ink::Line, points };
        let mean = |s: &Series| s.points.iter().map(|p| p.y).sum::<f64>() / s.points.len() as f64;
        let thin = series.clone().thinned(100);
        assert_eq!(thin.points.len(), 100);
        assert!((mean(&thin) - mean(&series)).abs() < 1e-9);
    }
}
