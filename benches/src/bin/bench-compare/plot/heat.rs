//! One field per test and size: how many times as fast as the best peer ranks is.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{bytes_text, failed};
use super::style::{BLUE, FONT, INK, TEXT, TITLE, VERMILION};
use crate::plan::START_UP;
use crate::report::figure;
use crate::results::{Key, Results};

const TESTS: [&str; 14] = [
    "latency",
    "any-latency",
    "bw",
    "bibw",
    "mbw-mr",
    "barrier",
    "bcast",
    "reduce",
    "allreduce",
    "allgather",
    "alltoall",
    "gather",
    "scatter",
    START_UP,
];
const FIELD: (i32, i32) = (44, 26);
const LEFT: i32 = 150;
const TOP: i32 = 92;
/// From here on a colour does not become darker.
const DARKEST: f64 = 4.0;

pub(crate) struct Row {
    title: String,
    /// By size.
    fields: Vec<(usize, f64)>,
}

pub(crate) fn rows(results: &Results) -> Vec<Row> {
    let of_test = |test: &&str| {
        let test = test.to_string();
        results.compared_ranks(&test).into_iter().map(move |ranks| {
            let fields = results.sizes(&test, ranks).into_iter().filter_map(|size| {
                let key = Key { test: test.clone(), ranks, size };
                Some((size, results.ratio_to_best(&key)?.times_as_fast()))
            });
            Row { title: format!("{test}, {ranks} ranks"), fields: fields.collect() }
        })
    };
    TESTS.iter().flat_map(of_test).filter(|row| !row.fields.is_empty()).collect()
}

pub(crate) fn draw(file: &Path, title: &str, results: &Results) -> Result<()> {
    let rows = rows(results);
    let sizes: BTreeSet<_> = rows.iter().flat_map(|row| row.fields.iter().map(|(size, _)| *size)).collect();
    let sizes: Vec<_> = sizes.into_iter().collect();
    let width = (LEFT + FIELD.0 * sizes.len() as i32 + 20).max(760);
    let height = TOP + FIELD.1 * rows.len() as i32 + 16;
    let root = SVGBackend::new(file, (width as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let text = |text: String, at, size: u32, anchor| {
        let style = (FONT, size).into_font().color(&INK).pos(anchor);
        root.draw(&Text::new(text, at, style)).map_err(failed)
    };
    let at_left = Pos::new(HPos::Left, VPos::Center);
    let in_middle = Pos::new(HPos::Center, VPos::Center);
    text(title.to_owned(), (16, 20), TITLE, at_left)?;
    let subtitle =
        "by message size in bytes; above 1 (blue) ranks is faster than every peer at all of its settings";
    text(subtitle.to_owned(), (16, 48), TEXT, at_left)?;
    for (column, &size) in sizes.iter().enumerate() {
        text(bytes_text(size), (middle_of(column), TOP - 12), TEXT, in_middle)?;
    }
    for (index, row) in rows.iter().enumerate() {
        let top = TOP + FIELD.1 * index as i32;
        text(row.title.clone(), (16, top + FIELD.1 / 2), TEXT, at_left)?;
        for &(size, times) in &row.fields {
            let Ok(column) = sizes.binary_search(&size) else { continue };
            let left = middle_of(column) - FIELD.0 / 2;
            let corners = [(left + 1, top + 1), (left + FIELD.0 - 1, top + FIELD.1 - 1)];
            root.draw(&Rectangle::new(corners, shade(times).filled())).map_err(failed)?;
            text(figure(times), (middle_of(column), top + FIELD.1 / 2), TEXT, in_middle)?;
        }
    }
    root.present().map_err(failed)
}

fn middle_of(column: usize) -> i32 {
    LEFT + FIELD.0 * column as i32 + FIELD.0 / 2
}

/// White at 1, towards blue above and towards vermilion below, by the logarithm; light enough for dark type.
fn shade(times: f64) -> RGBColor {
    const STRONGEST: f64 = 0.65;
    let strength = (times.ln() / DARKEST.ln()).clamp(-1.0, 1.0);
    let towards = if strength < 0.0 { VERMILION } else { BLUE };
    let share = strength.abs() * STRONGEST;
    let mix = |colour: u8| (255.0 + (f64::from(colour) - 255.0) * share).round() as u8;
    RGBColor(mix(towards.0), mix(towards.1), mix(towards.2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn a_field_says_how_many_times_as_fast() {
        let rows = rows(&sample());
        let fields: Vec<_> = rows.iter().map(|row| (row.title.as_str(), row.fields[0].0)).collect();
        assert_eq!(fields, [("latency, 2 ranks", 8), ("bw, 2 ranks", 8)]);
        assert!((rows[0].fields[0].1 - 2.0).abs() < 1e-9);
    }

    #[test]
    fn as_fast_is_white_and_far_off_is_not_darker_than_the_darkest() {
        assert_eq!(shade(1.0), RGBColor(255, 255, 255));
        assert_eq!(shade(100.0), shade(DARKEST));
        assert_ne!(shade(0.5), shade(2.0));
    }
}
