//! Line charts with logarithmic axes: small SVG files, written by hand.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
/// Left, top, right, bottom; names stand on the right.
const MARGIN: [f64; 4] = [62.0, 28.0, 220.0, 44.0];
const COLOURS: [&str; 10] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2",
    "#7f7f7f", "#bcbd22",
];

/// One chart; all values above 0.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// What is along the lower edge.
    pub(crate) along: &'a str,
    /// Written before figures of the other axis.
    pub(crate) unit: &'a str,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// One axis, from a power of ten to another.
struct Axis {
    low: i32,
    high: i32,
    begin: f64,
    length: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, begin: f64, length: f64) -> Self {
        let drawn = values.filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = drawn.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = match low <= high {
            true => (low.log10().floor() as i32, high.log10().ceil() as i32),
            false => (0, 1),
        };
        Self {
            low,
            high: high.max(low + 1),
            begin,
            length,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.begin + self.length * share
    }

    /// Powers of ten and where they are.
    fn ticks(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let power = |p: i32| (10f64.powi(p), self.at(10f64.powi(p)));
        (self.low..=self.high).map(power)
    }
}

impl Chart<'_> {
    pub(crate) fn svg(&self) -> String {
        let [left, top, right, bottom] = MARGIN;
        let points = || self.lines.iter().flat_map(|(_, line)| line);
        let (wide, high) = (WIDTH - left - right, HEIGHT - top - bottom);
        let x = Axis::new(points().map(|p| p.0), left, wide);
        let y = Axis::new(points().map(|p| p.1), HEIGHT - bottom, -high);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n<text x=\"{left}\" y=\"16\" font-size=\"13\">{}</text>\n",
            self.title
        );
        for (value, at) in y.ticks() {
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at:.1}h{wide}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}{value}</text>",
                left - 5.0,
                at + 4.0,
                self.unit
            );
        }
        for (value, at) in x.ticks() {
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {top}v{high}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{value}</text>",
                HEIGHT - bottom + 15.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{:.0}\">{}</text>",
            HEIGHT - 8.0,
            self.along
        );
        for (i, (name, line)) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let drawn = line.iter().filter(|(_, v)| v.is_finite() && *v > 0.0);
            let points: Vec<String> = drawn
                .map(|(along, value)| format!("{:.1},{:.1}", x.at(*along), y.at(*value)))
                .collect();
            let (at, end) = (top + 8.0 + 15.0 * i as f64, WIDTH - right + 10.0);
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n<path d=\"M{end} {at}h16\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{name}</text>",
                points.join(" "),
                end + 20.0,
                at + 4.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenfold_value_is_as_far_from_the_next_anywhere() {
        let chart = Chart {
            title: "t",
            along: "GB",
            unit: "$",
            lines: vec![("a".into(), vec![(1.0, 0.1), (10.0, 1.0), (100.0, 10.0)])],
        };
        let svg = chart.svg();
        let [left, top, right, bottom] = MARGIN;
        let middle = (left + (WIDTH - right)) / 2.0;
        let height = (top + (HEIGHT - bottom)) / 2.0;
        assert!(svg.contains(&format!("{middle:.1},{height:.1}")), "{svg}");
        assert!(
            svg.contains(&format!("{left:.1},{:.1}", HEIGHT - bottom)),
            "{svg}"
        );
        assert!(svg.contains(">$0.1<") && svg.ends_with("</svg>\n"));
    }
}
