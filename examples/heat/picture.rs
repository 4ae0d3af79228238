//! The plate as a PNG picture of 256 colours.

use std::fs::File;
use std::io::BufWriter;

use crate::plate::Shape;

/// Colours from cold to hot, between which the palette is interpolated: night blue, violet, red, orange, cream.
const COLOURS: [[f64; 3]; 6] = [
    [8.0, 10.0, 40.0],
    [62.0, 22.0, 112.0],
    [150.0, 38.0, 110.0],
    [222.0, 74.0, 70.0],
    [250.0, 158.0, 60.0],
    [255.0, 247.0, 204.0],
];

/// Writes temperatures from 0 to 1, row by row, to `file`.
pub(crate) fn write(file: File, shape: Shape, plate: &[f64]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(BufWriter::new(file), shape.columns as u32, shape.rows as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette());
    encoder.set_compression(png::Compression::Best);
    let mut writer = encoder.write_header()?;
    let pixels: Vec<u8> = plate.iter().map(|&temperature| (temperature * 255.0).round() as u8).collect();
    writer.write_image_data(&pixels)?;
    writer.finish()
}

/// 256 colours, three bytes each.
fn palette() -> Vec<u8> {
    (0..256).flat_map(|index| colour(f64::from(index) / 255.0)).collect()
}

/// The colour of a temperature from 0 to 1.
fn colour(temperature: f64) -> [u8; 3] {
    let place = temperature * (COLOURS.len() - 1) as f64;
    let lower = (place as usize).min(COLOURS.len() - 2);
    let part = place - lower as f64;
    std::array::from_fn(|channel| {
        let (from, to) = (COLOURS[lower][channel], COLOURS[lower + 1][channel]);
        (from + part * (to - from)).round() as u8
    })
}
