//! Colours and sizes of type. The colours are Okabe and Ito's, which colour-blind people can tell apart.

use plotters::style::RGBColor;

use crate::contender::OURS;

pub(crate) const FONT: &str = "sans-serif";
pub(crate) const TITLE: u32 = 20;
pub(crate) const PANEL: u32 = 16;
pub(crate) const TEXT: u32 = 13;

pub(crate) const INK: RGBColor = RGBColor(40, 40, 40);
pub(crate) const GRID: RGBColor = RGBColor(225, 225, 225);
pub(crate) const FAINT_GRID: RGBColor = RGBColor(242, 242, 242);

pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(crate) const VERMILION: RGBColor = RGBColor(213, 94, 0);

pub(crate) fn colour(peer: &str) -> RGBColor {
    match peer {
        OURS => BLUE,
        "openmpi4" => RGBColor(230, 159, 0),
        "openmpi5" => VERMILION,
        "mpich5" => RGBColor(0, 158, 115),
        "impi" => RGBColor(204, 121, 167),
        _ => RGBColor(120, 120, 120),
    }
}
