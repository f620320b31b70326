//! Line charts: small SVG files, written by hand.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
/// Left, top, right, bottom; names stand on the right.
const MARGIN: [f64; 4] = [62.0, 28.0, 220.0, 44.0];
const NAME_HEIGHT: f64 = 15.0;
/// Points of a line with no more than this are marked.
const MARKED: usize = 12;
const COLOURS: [&str; 10] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2",
    "#7f7f7f", "#bcbd22",
];

/// A name, and points from left to right. Those that an axis cannot show are left out.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// A chart whose axes go from a power of ten to another; all values above 0.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// What is along the lower edge.
    pub(crate) along: &'a str,
    /// Written before figures of the other axis.
    pub(crate) unit: &'a str,
    pub(crate) lines: Vec<Line>,
}

/// A chart with axes of any kind.
pub(crate) struct Drawing<'a> {
    pub(crate) title: &'a str,
    pub(crate) along: &'a str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

/// One axis: both ends, and what is written where.
pub(crate) struct Axis {
    ends: (f64, f64),
    ticks: Vec<(f64, String)>,
    is_logarithmic: bool,
}

impl Axis {
    pub(crate) fn linear(ends: (f64, f64), ticks: Vec<(f64, String)>) -> Self {
        Self {
            ends,
            ticks,
            is_logarithmic: false,
        }
    }

    /// From 1 to `most`, some of them written down.
    pub(crate) fn counts(most: usize) -> Self {
        let ticks = (1..=most).step_by(most.div_ceil(10).max(1));
        let ticks = ticks.map(|i| (i as f64, i.to_string())).collect();
        Self::linear((0.0, most as f64 + 1.0), ticks)
    }

    /// From 0 to the next round figure, in quarters.
    pub(crate) fn from_zero(most: f64, name: impl Fn(f64) -> String) -> Self {
        let top = round_up(most);
        let quarter = |i: i32| top * f64::from(i) / 4.0;
        let tick = |i: i32| (quarter(i), name(quarter(i)));
        Self::linear((0.0, top), (0..=4).map(tick).collect())
    }

    /// From the power of ten below all values to that above.
    pub(crate) fn powers(values: impl Iterator<Item = f64>, unit: &str) -> Self {
        let drawn = values.filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = drawn.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = match low <= high {
            true => (low.log10().floor() as i32, high.log10().ceil() as i32),
            false => (0, 1),
        };
        let high = high.max(low + 1);
        let tick = |p: i32| (10f64.powi(p), format!("{unit}{}", 10f64.powi(p)));
        Self {
            ends: (10f64.powi(low), 10f64.powi(high)),
            ticks: (low..=high).map(tick).collect(),
            is_logarithmic: true,
        }
    }

    /// Where on a line from `begin` that is so long; none for what is on no such axis.
    fn at(&self, value: f64, begin: f64, length: f64) -> Option<f64> {
        let place = |v: f64| if self.is_logarithmic { v.log10() } else { v };
        let (low, high) = (place(self.ends.0), place(self.ends.1));
        let at = begin + length * (place(value) - low) / (high - low);
        at.is_finite().then_some(at)
    }
}

impl Chart<'_> {
    pub(crate) fn svg(self) -> String {
        let points = || self.lines.iter().flat_map(|(_, line)| line);
        let x = Axis::powers(points().map(|p| p.0), "");
        let y = Axis::powers(points().map(|p| p.1), self.unit);
        let drawing = Drawing {
            title: self.title,
            along: self.along,
            x,
            y,
            lines: self.lines,
        };
        drawing.svg()
    }
}

impl Drawing<'_> {
    pub(crate) fn svg(&self) -> String {
        let [left, top, right, bottom] = MARGIN;
        let names = self.lines.len() as f64 * NAME_HEIGHT;
        let height = HEIGHT.max(top + names + NAME_HEIGHT);
        let (wide, high) = (WIDTH - left - right, height - top - bottom);
        let x = |value| self.x.at(value, left, wide);
        let y = |value| self.y.at(value, height - bottom, -high);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"{left}\" y=\"16\" font-size=\"13\">{}</text>\n",
            escape(self.title)
        );
        for (value, text) in &self.y.ticks {
            let Some(at) = y(*value) else { continue };
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at:.1}h{wide}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 5.0,
                at + 4.0,
                escape(text)
            );
        }
        for (value, text) in &self.x.ticks {
            let Some(at) = x(*value) else { continue };
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {top}v{high}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                height - bottom + 15.0,
                escape(text)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{:.0}\">{}</text>",
            height - 8.0,
            escape(self.along)
        );
        for (i, (name, line)) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let dashes = if i < COLOURS.len() {
                ""
            } else {
                " stroke-dasharray=\"4 2\""
            };
            let drawn = line.iter().filter_map(|&(along, v)| x(along).zip(y(v)));
            let drawn: Vec<(f64, f64)> = drawn.collect();
            let point = |(x, y): &(f64, f64)| format!("{x:.1},{y:.1}");
            let points: Vec<String> = drawn.iter().map(point).collect();
            if drawn.len() <= MARKED {
                for (x, y) in &drawn {
                    let _ = writeln!(
                        svg,
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"{colour}\"/>"
                    );
                }
            }
            let (at, end) = (top + 8.0 + NAME_HEIGHT * i as f64, WIDTH - right + 10.0);
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dashes}/>\n<path d=\"M{end} {at}h16\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/><text x=\"{}\" y=\"{}\">{}</text>",
                points.join(" "),
                end + 20.0,
                at + 4.0,
                escape(name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-6).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits = steps.iter().find(|s| **s * power >= value);
    fits.unwrap_or(&10.0) * power
}

/// Milliseconds by how rare they are.
pub(crate) fn latencies(title: &str, lines: Vec<Line>) -> String {
    let chart = Chart {
        title,
        along: "one request in so many takes longer (100: p99)",
        unit: "",
        lines,
    };
    chart.svg()
}

/// Writes a file, and the folder for it if there is none.
pub(crate) fn write(path: &Path, svg: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("no {}", folder.display()))?;
    }
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(lines: Vec<Line>) -> String {
        let chart = Chart {
            title: "t",
            along: "GB",
            unit: "$",
            lines,
        };
        chart.svg()
    }

    #[test]
    fn a_tenfold_value_is_as_far_from_the_next_anywhere() {
        let svg = svg(vec![(
            "a".into(),
            vec![(1.0, 0.1), (10.0, 1.0), (100.0, 10.0), (1e3, 0.0)],
        )]);
        let [left, top, right, bottom] = MARGIN;
        // three powers along, and what is 0 is not drawn
        let third = left + (WIDTH - left - right) / 3.0;
        let middle = (top + (HEIGHT - bottom)) / 2.0;
        assert!(svg.contains(&format!("{third:.1},{middle:.1}")), "{svg}");
        assert!(
            svg.contains(&format!("{left:.1},{:.1}", HEIGHT - bottom)),
            "{svg}"
        );
        assert!(svg.contains(">$0.1<") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("inf") && !svg.contains("NaN"));
    }

    #[test]
    fn on_linear_axes_higher_values_are_drawn_higher() {
        let tick = |at: f64| (at, at.to_string());
        let drawing = Drawing {
            title: "t",
            along: "h",
            x: Axis::linear((0.0, 2.0), vec![tick(0.0)]),
            y: Axis::linear((0.0, 1.0), vec![tick(0.0), tick(1.0)]),
            lines: vec![("a".into(), vec![(0.0, 0.0), (2.0, 1.0)])],
        };
        let svg = drawing.svg();
        let [left, top, right, bottom] = MARGIN;
        let (low, end) = (HEIGHT - bottom, WIDTH - right);
        let line = format!("\"{left:.1},{low:.1} {end:.1},{top:.1}\"");
        assert!(svg.contains(&line), "{svg}");
    }

    #[test]
    fn axes_end_at_round_figures() {
        assert_eq!(
            [round_up(0.07), round_up(0.11), round_up(3.0)],
            [0.1, 0.2, 5.0]
        );
        let axis = Axis::from_zero(3.0, |s| format!("{s} s"));
        let names: Vec<&str> = axis.ticks.iter().map(|(_, name)| &name[..]).collect();
        assert_eq!(names, ["0 s", "1.25 s", "2.5 s", "3.75 s", "5 s"]);
    }

    #[test]
    fn a_lonely_point_is_seen() {
        let marks = |points: usize| {
            let line = (0..points).map(|i| (1.0 + i as f64, 1.0)).collect();
            svg(vec![("a".into(), line)]).matches("<circle").count()
        };
        assert_eq!((marks(1), marks(MARKED), marks(MARKED + 1)), (1, MARKED, 0));
    }

    #[test]
    fn names_have_room_and_are_text() {
        let lines = (0..40).map(|i| (format!("a<b & {i}"), vec![(1.0, 1.0)]));
        let svg = svg(lines.collect());
        assert!(svg.contains("a&lt;b &amp; 39") && !svg.contains("a<b"));
        let last = MARGIN[1] + 8.0 + NAME_HEIGHT * 39.0;
        let height: f64 = svg
            .split("height=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .and_then(|text| text.parse().ok())
            .unwrap();
        assert!(height > last, "{height} {last}");
        assert!(svg.contains("stroke-dasharray"));
    }
}
