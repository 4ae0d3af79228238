//! Panels of curves on logarithmic axes, with one legend for all.

use std::path::Path;

use anyhow::{Error, Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::style::{FAINT_GRID, FONT, GRID, INK, PANEL, TEXT, TITLE, colour};
use crate::contender::{OURS, peer_title};
use crate::results::Results;
use crate::rounds::FLOOR;

pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) x: X,
    pub(crate) curves: Vec<Curve>,
}

pub(crate) struct Curve {
    pub(crate) peer: String,
    pub(crate) stroke: Stroke,
    /// The binary logarithm of what is on the x axis, and the value.
    pub(crate) points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum X {
    Bytes,
    Ranks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// Ours.
    Thick,
    /// A peer at the best of its settings.
    Solid,
    /// A peer at its defaults.
    Dashed,
    /// What the machine can do.
    Dotted,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const PANEL_WIDTH: u32 = 400;
const PANEL_HEIGHT: u32 = 330;
const HEAD: u32 = 82;
/// More would be too small to read on a page.
const MOST_COLUMNS: usize = 3;
/// The legend in one line, without a font at hand to measure it.
const LEAST_WIDTH: u32 = 960;

impl Panel {
    pub(crate) fn is_empty(&self) -> bool {
        self.curves.is_empty()
    }

    pub(crate) fn x_range(&self) -> Option<(f64, f64)> {
        extremes(self.points().map(|(x, _)| x))
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.curves.iter().flat_map(|curve| curve.points.iter().copied())
    }
}

pub(crate) fn draw(file: &Path, title: &str, panels: &[Panel], results: &Results) -> Result<()> {
    let panels: Vec<_> = panels.iter().filter(|panel| !panel.is_empty()).collect();
    let columns = panels.len().min(MOST_COLUMNS);
    let rows = panels.len().div_ceil(columns);
    let width = (PANEL_WIDTH * columns as u32).max(LEAST_WIDTH);
    let root = SVGBackend::new(file, (width, HEAD + PANEL_HEIGHT * rows as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let (head, body) = root.split_vertically(HEAD);
    draw_head(&head, title, &panels, results)?;
    for (panel, area) in panels.iter().zip(body.split_evenly((rows, columns))) {
        draw_panel(&area, panel)?;
    }
    root.present().map_err(failed)
}

/// plotters' errors borrow its backend.
pub(crate) fn failed<E: std::error::Error>(error: E) -> Error {
    anyhow!("{error}")
}

fn draw_head(area: &Area<'_>, title: &str, panels: &[&Panel], results: &Results) -> Result<()> {
    let text = |size: u32| (FONT, size).into_font().color(&INK);
    area.draw(&Text::new(title.to_owned(), (16, 8), text(TITLE))).map_err(failed)?;
    let present = |peer: &str| panels.iter().flat_map(|panel| &panel.curves).any(|curve| curve.peer == peer);
    let mut left = 16;
    for peer in [OURS, "openmpi4", "openmpi5", "mpich5", "impi", FLOOR] {
        if !present(peer) {
            continue;
        }
        let (stroke, label) = match peer {
            OURS => (Stroke::Thick, "ranks".to_owned()),
            FLOOR => (Stroke::Dotted, "hand-off of a cache line".to_owned()),
            _ => (Stroke::Solid, with_version(peer, results)),
        };
        draw_sample(area, peer, stroke, left)?;
        area.draw(&Text::new(label.clone(), (left + 34, 38), text(TEXT))).map_err(failed)?;
        left += 52 + 7 * label.chars().count() as i32;
    }
    let note = "solid: the best of a peer's settings at each point; dashed: its defaults";
    area.draw(&Text::new(note, (16, 62), text(TEXT))).map_err(failed)?;
    Ok(())
}

fn with_version(peer: &str, results: &Results) -> String {
    let version = results.contenders.iter().find(|contestant| contestant.peer == peer);
    let title = peer_title(peer).split_whitespace().take_while(|word| !word.starts_with(char::is_numeric));
    let title = title.collect::<Vec<_>>().join(" ");
    version.map_or(title.clone(), |contestant| format!("{title} {}", contestant.version))
}

fn draw_sample(area: &Area<'_>, peer: &str, stroke: Stroke, left: i32) -> Result<()> {
    let ends = vec![(left, 44), (left + 28, 44)];
    let style = colour(peer).stroke_width(width(stroke));
    if stroke == Stroke::Dotted {
        for dot in 0..5 {
            let from = left + 6 * dot;
            area.draw(&PathElement::new(vec![(from, 44), (from + 2, 44)], style)).map_err(failed)?;
        }
        return Ok(());
    }
    area.draw(&PathElement::new(ends, style)).map_err(failed)?;
    if stroke == Stroke::Thick {
        area.draw(&Circle::new((left + 14, 44), 4, colour(peer).filled())).map_err(failed)?;
    }
    Ok(())
}

fn draw_panel(area: &Area<'_>, panel: &Panel) -> Result<()> {
    let (Some((left, right)), Some((low, high))) =
        (panel.x_range(), extremes(panel.points().map(|(_, y)| y)))
    else {
        return Ok(());
    };
    // Half a step of room for a panel of one column; a little above and below.
    let x: std::ops::Range<f64> = left - 0.5..right + 0.5;
    let y = (low / 1.5..high * 1.5).log_scale();
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(18)
        .caption(&panel.title, (FONT, PANEL).into_font().color(&INK))
        .x_label_area_size(40)
        .y_label_area_size(62)
        .build_cartesian_2d(x, y)
        .map_err(failed)?;
    let x_label = match panel.x {
        X::Bytes => "message size, bytes",
        X::Ranks => "ranks",
    };
    let label = |x: &f64| x_text(panel.x, *x);
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(FAINT_GRID)
        .x_labels(((right - left) as usize + 1).clamp(2, 12))
        .x_max_light_lines(1)
        .y_labels(8)
        .x_label_formatter(&label)
        .y_label_formatter(&|y| y_text(*y))
        .x_desc(x_label)
        .y_desc(&panel.unit)
        .label_style((FONT, TEXT).into_font().color(&INK))
        .axis_desc_style((FONT, TEXT + 1).into_font().color(&INK))
        .draw()
        .map_err(failed)?;
    for curve in &panel.curves {
        draw_curve(&mut chart, curve)?;
    }
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, LogCoord<f64>>>;

fn draw_curve(chart: &mut Chart<'_, '_>, curve: &Curve) -> Result<()> {
    let colour = colour(&curve.peer);
    let style = colour.stroke_width(width(curve.stroke));
    let points = curve.points.iter().copied();
    match curve.stroke {
        Stroke::Thick | Stroke::Solid => chart.draw_series(LineSeries::new(points.clone(), style)),
        Stroke::Dashed => chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style)),
        Stroke::Dotted => chart.draw_series(DashedLineSeries::new(points.clone(), 2, 4, style)),
    }
    .map_err(failed)?;
    let radius = match curve.stroke {
        Stroke::Thick => 4,
        // One point makes no line.
        Stroke::Solid if curve.points.len() == 1 => 4,
        Stroke::Dashed if curve.points.len() == 1 => 3,
        _ => return Ok(()),
    };
    chart.draw_series(points.map(|point| Circle::new(point, radius, colour.filled()))).map_err(failed)?;
    Ok(())
}

fn width(stroke: Stroke) -> u32 {
    match stroke {
        Stroke::Thick => 4,
        Stroke::Solid | Stroke::Dotted => 2,
        Stroke::Dashed => 1,
    }
}

fn extremes(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let least = values.clone().min_by(f64::total_cmp)?;
    Some((least, values.max_by(f64::total_cmp)?))
}

fn x_text(x: X, position: f64) -> String {
    if position.fract() != 0.0 {
        return String::new();
    }
    match x {
        X::Bytes if position < 0.0 => "0".to_owned(),
        X::Bytes => bytes_text(1 << position as u32),
        X::Ranks => (1_u64 << position.max(0.0) as u32).to_string(),
    }
}

/// As people write sizes that are powers of two.
pub(crate) fn bytes_text(bytes: usize) -> String {
    match bytes {
        0..1024 => bytes.to_string(),
        1024..1_048_576 if bytes.is_multiple_of(1024) => format!("{}K", bytes / 1024),
        _ if bytes.is_multiple_of(1_048_576) => format!("{}M", bytes / 1_048_576),
        _ => bytes.to_string(),
    }
}

fn y_text(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_short() {
        assert_eq!([0, 512, 4096, 1_048_576, 1500].map(bytes_text), ["0", "512", "4K", "1M", "1500"]);
    }

    #[test]
    fn only_powers_of_two_have_a_label() {
        assert_eq!([-1.0, 0.0, 2.5, 12.0].map(|at| x_text(X::Bytes, at)), ["0", "1", "", "4K"]);
        assert_eq!(x_text(X::Ranks, 3.0), "8");
    }
}
