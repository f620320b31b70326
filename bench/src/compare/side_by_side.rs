//! Rows of the matrix as one line for each cell: the first server's rate, the others' shares.

use crate::chart::{Chart, Line};
use crate::grid::Grid;
use crate::report::Row;
use crate::workload::Op;

const OPS: [Op; 2] = [Op::Get, Op::Set];

/// One grid for GET, one for SET; none of what was not measured.
pub(super) fn grids(rows: &[Row]) -> Vec<Grid> {
    let of = |op| rows.iter().filter(move |row| row.op.only() == Some(op));
    let grid = |op: Op| grid(op, &of(op).collect::<Vec<_>>());
    OPS.into_iter().filter_map(grid).collect()
}

fn grid(op: Op, rows: &[&Row]) -> Option<Grid> {
    let first = rows.first()?.who();
    let others = names(rows, &first);
    let mut headings = vec![op.to_string(), "clients".into(), format!("{first}, GB/s")];
    headings.push("ops/s".into());
    headings.extend(others.iter().cloned());
    let mut lines: Vec<(&str, usize, Vec<String>)> = Vec::new();
    for row in rows {
        let is_new = lines
            .last()
            .is_none_or(|last| (last.0, last.1) != (row.size.as_str(), row.clients));
        if is_new {
            let mut cells = vec!["-".to_owned(); headings.len()];
            cells[0].clone_from(&row.size);
            cells[1] = row.clients.to_string();
            lines.push((&row.size, row.clients, cells));
        }
        let Some((.., cells)) = lines.last_mut() else {
            continue;
        };
        let who = row.who();
        match others.iter().position(|other| *other == who) {
            Some(place) => cells[4 + place] = format!("{:.2}x", row.ratio),
            None => {
                cells[2] = format!("{:.3}", row.summary.gb_per_s);
                cells[3] = format!("{:.0}", row.summary.ops_per_s);
            }
        }
    }
    Some(Grid {
        headings,
        left: vec![0],
        rows: lines.into_iter().map(|(.., cells)| cells).collect(),
    })
}

/// All but `first`, in the order of their first rows.
fn names(rows: &[&Row], first: &str) -> Vec<String> {
    let mut names = Vec::new();
    for row in rows {
        let who = row.who();
        if who != first && !names.contains(&who) {
            names.push(who);
        }
    }
    names
}

/// Ratios by size, one chart for each operation: what its file is called, and the drawing.
pub(super) fn charts(rows: &[Row]) -> Vec<(String, String)> {
    let drawn = |op: Op| {
        let mut lines: Vec<Line> = Vec::new();
        let first = rows.first().map(Row::who);
        for row in rows.iter().filter(|row| row.op.only() == Some(op)) {
            let Some(bytes) = row.size_bytes.filter(|_| Some(row.who()) != first) else {
                continue;
            };
            let name = format!("{}, {} clients", row.target, row.clients);
            let point = (bytes as f64, row.ratio);
            match lines.iter_mut().find(|(other, _)| *other == name) {
                Some((_, points)) => points.push(point),
                None => lines.push((name, vec![point])),
            }
        }
        let title = format!("{op}: rate, as a multiple of redis-server's");
        let chart = Chart {
            title: &title,
            along: "bytes of an object",
            unit: "",
            lines,
        };
        chart.svg()
    };
    let has = |op: &Op| rows.iter().any(|row| row.op.only() == Some(*op));
    let file = |op: Op| format!("matrix-{op}.svg").to_lowercase();
    let measured = OPS.into_iter().filter(has);
    measured.map(|op| (file(op), drawn(op))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Round, Samples};
    use crate::target::Target;
    use crate::workload::Cell;

    fn row(op: Op, size: &str, clients: usize, target: &str, ops: u64) -> Row {
        let mut target = Target::new(target, "127.0.0.1:1".into());
        target.ack = Some("memory");
        let mut samples = Samples::new().unwrap();
        samples.rounds.push(Round {
            ops,
            bytes: ops * 1_000,
            elapsed_s: 1.0,
            cpu_s: None,
        });
        let cell = Cell::new(op, size.parse().unwrap(), clients, 1);
        Row::new(&cell, &target, samples, 100.0, None).unwrap()
    }

    #[test]
    fn a_line_for_each_cell_and_a_dash_for_what_was_left_out() {
        let rows = [
            row(Op::Get, "1k", 1, "redis", 100),
            row(Op::Get, "1k", 1, "hot", 150),
            row(Op::Get, "1k", 1, "pool", 50),
            row(Op::Set, "1k", 1, "redis", 100),
            row(Op::Set, "1k", 1, "pool", 20),
            row(Op::Get, "1m", 1, "redis", 100),
            row(Op::Get, "1m", 1, "pool", 80),
        ];
        let grids = grids(&rows);
        let Grid { headings, rows, .. } = &grids[0];
        assert_eq!(
            headings[..],
            ["GET", "clients", "redis, GB/s", "ops/s", "hot", "pool"]
        );
        assert_eq!(rows[0], ["1k", "1", "0.000", "100", "1.50x", "0.50x"]);
        assert_eq!(rows[1], ["1m", "1", "0.000", "100", "-", "0.80x"]);
        // whose word a SET has stands in the heading
        assert_eq!(grids[1].headings[2], "redis (ack=memory), GB/s");
        assert_eq!(grids[1].rows[0][4], "0.20x");
    }

    #[test]
    fn charts_have_a_line_for_each_server_and_number_of_clients() {
        let rows = [
            row(Op::Get, "1k", 1, "redis", 100),
            row(Op::Get, "1k", 1, "pool", 50),
            row(Op::Get, "1m", 1, "redis", 100),
            row(Op::Get, "1m", 1, "pool", 80),
        ];
        let charts = charts(&rows);
        assert_eq!(charts[0].1.matches("<polyline").count(), 1);
        assert!(charts[0].1.contains("pool, 1 clients"));
    }
}
