//! The pictures beside the page: SVG with a white background, so that they are readable on light and dark pages.

mod chart;
mod curves;
mod heat;
mod style;

use std::path::Path;

use anyhow::{Context, Result};

use crate::results::Results;

pub(crate) struct Picture {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    draw: Draw,
}

enum Draw {
    Curves(fn(&Results) -> Vec<chart::Panel>),
    Heat,
}

static PICTURES: [Picture; 7] = [
    Picture { file: "latency.svg", title: "Latency between two ranks", draw: Draw::Curves(curves::latency) },
    Picture {
        file: "bandwidth.svg",
        title: "Bandwidth between two ranks",
        draw: Draw::Curves(curves::bandwidth),
    },
    Picture { file: "message-rate.svg", title: "Message rate", draw: Draw::Curves(curves::message_rate) },
    Picture {
        file: "collectives.svg",
        title: "Collectives of two ranks",
        draw: Draw::Curves(curves::collectives),
    },
    Picture {
        file: "oversubscribed.svg",
        title: "Collectives of four and eight ranks",
        draw: Draw::Curves(curves::of_more_ranks),
    },
    Picture { file: "start-up.svg", title: "Start-up and growth", draw: Draw::Curves(curves::start_up) },
    Picture {
        file: "ratio.svg",
        title: "How many times as fast as the best peer ranks is",
        draw: Draw::Heat,
    },
];

/// Those that there are figures for.
pub(crate) fn pictures(results: &Results) -> impl Iterator<Item = &'static Picture> {
    PICTURES.iter().filter(|picture| match picture.draw {
        Draw::Curves(panels) => panels(results).iter().any(|panel| !panel.is_empty()),
        Draw::Heat => !heat::rows(results).is_empty(),
    })
}

pub(crate) fn write_all(results: &Results, folder: &Path) -> Result<()> {
    for picture in pictures(results) {
        let file = folder.join(picture.file);
        let drawn = match picture.draw {
            Draw::Curves(panels) => chart::draw(&file, picture.title, &panels(results), results),
            Draw::Heat => heat::draw(&file, picture.title, results),
        };
        drawn.with_context(|| format!("cannot draw {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn every_picture_with_figures_is_drawn() {
        let folder = std::env::temp_dir().join(format!("bench-compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        write_all(&sample(), &folder).unwrap();
        let drawn: Vec<_> = pictures(&sample()).map(|picture| picture.file).collect();
        let text = drawn.iter().map(|file| std::fs::read_to_string(folder.join(file)).unwrap());
        for (text, file) in text.zip(&drawn) {
            assert!(text.trim_end().ends_with("</svg>"), "{file}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(drawn.contains(&"latency.svg") && drawn.contains(&"ratio.svg"));
        assert!(!drawn.contains(&"collectives.svg"));
    }
}
