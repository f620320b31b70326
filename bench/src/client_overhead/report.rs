//! What rounds say, as figures and drawings.

use super::{Args, OPS, Subject, Way};
use crate::chart::{Axis, Drawing, Line};
use crate::goals::Figure;
use crate::measure::median;
use crate::report::Report;
use crate::workload::Op;

const LEAST_RATIO: f64 = 0.95;

/// Subjects whose rounds are told however they end, be it that nobody waits for them any more.
pub(super) struct Told<'a> {
    pub(super) args: &'a Args,
    pub(super) subjects: Vec<Subject>,
    pub(super) report: &'a mut Report,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        report_on(self.args, &self.subjects, self.report);
    }
}

fn report_on(args: &Args, subjects: &[Subject], report: &mut Report) {
    report.drawings.extend(drawings(args, subjects));
    for subject in subjects {
        let measured = OPS.iter().zip(&subject.rates);
        for (op, rates) in measured.filter(|(_, rates)| !rates.is_empty()) {
            let name = format!("{op} {}, {}", args.size, subject.name);
            let figure = Figure::new(name.clone(), median(rates.clone()), "GB/s", None);
            report.figures.push(figure);
        }
        let beside = subject.beside.and_then(|place| subjects.get(place));
        let Some(beside) = beside else { continue };
        if subject.rates.iter().any(Vec::is_empty) {
            continue;
        }
        // of the library's own cost; the proxy within the program is another matter
        let is_judged = !args.quick && matches!(beside.way, Way::Raw(_));
        let least = is_judged.then_some(LEAST_RATIO);
        for (place, op) in OPS.iter().enumerate() {
            let pairs = subject.rates[place].iter().zip(&beside.rates[place]);
            let ratio = median(pairs.map(|(mine, other)| mine / other).collect());
            let name = format!("{op} {}, {} / {}", args.size, subject.name, beside.name);
            report
                .figures
                .push(Figure::at_least(name, ratio, "x", least));
        }
    }
}

/// Rates by the round, a drawing for each operation.
fn drawings(args: &Args, subjects: &[Subject]) -> Vec<(String, String)> {
    let drawing = |(place, op): (usize, &Op)| {
        let measured = subjects.iter().filter(|s| !s.rates[place].is_empty());
        let line = |s: &Subject| {
            let rounds = s.rates[place].iter().enumerate();
            let points = rounds.map(|(i, rate)| (i as f64 + 1.0, *rate)).collect();
            (s.name.clone(), points)
        };
        let lines: Vec<Line> = measured.map(line).collect();
        let rates = || lines.iter().flat_map(|(_, points)| points);
        let most = rates().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let drawing = Drawing {
            title: &format!("{op} of {}, GB/s by the round", args.size),
            along: "round",
            x: Axis::counts(rates().count() / lines.len().max(1)),
            y: Axis::from_zero(most, |rate| format!("{rate:.2}")),
            lines: lines.clone(),
        };
        let name = format!("client-{op}.svg").to_lowercase();
        (!lines.is_empty()).then(|| (name, drawing.svg()))
    };
    OPS.iter().enumerate().filter_map(drawing).collect()
}

#[cfg(test)]
mod tests {
    use scatterhoard_client::{Client, Options};

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[tokio::test]
    async fn rounds_that_were_done_are_told_though_others_were_not() {
        let args = <Cli as clap::Parser>::parse_from(["x"]).args;
        let subject = |name: &str, beside, rates| Subject {
            name: name.into(),
            beside,
            way: Way::Library(Client::new(Options::new("127.0.0.1", 1))),
            rates,
        };
        let subjects = [
            subject("raw", None, [vec![1.0, 3.0, 2.0], vec![4.0, 4.0]]),
            subject("slow", Some(0), [vec![1.0, 1.5], vec![2.0]]),
            subject("cut", Some(0), [vec![], vec![]]),
        ];
        let mut report = Report::new(args.seed);
        report_on(&args, &subjects, &mut report);
        let said = report.figures.iter().map(|f| (f.name.as_str(), f.value));
        let said: Vec<(&str, f64)> = said.collect();
        let expected = [
            ("GET 10m, raw", 2.0),
            ("SET 10m, raw", 4.0),
            ("GET 10m, slow", 1.25),
            ("SET 10m, slow", 2.0),
            ("GET 10m, slow / raw", 0.75),
            ("SET 10m, slow / raw", 0.5),
        ];
        assert_eq!(said, expected);
        let [(get, svg), (set, _)] = &report.drawings[..] else {
            panic!("{} drawings", report.drawings.len());
        };
        assert_eq!((&get[..], &set[..]), ("client-get.svg", "client-set.svg"));
        assert_eq!(svg.matches("<polyline").count(), 2, "none of what was cut");
    }
}
