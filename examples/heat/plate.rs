//! A block of the plate's rows, with a halo row above and below, and one step in time.
//!
//! ```text
//!      halo: the last row of the rank above, or the cold frame
//!      own rows  \
//!      ...        > cells with a frame column left and right
//!      own rows  /
//!      halo: the first row of the rank below, or the cold frame
//! ```

/// Part of the difference to the neighbours that a cell takes over in a step; the method is stable up to 1/4.
const DIFFUSIVITY: f64 = 0.24;

/// Discs held at a temperature: row, column and radius as parts of the plate's height, and the temperature.
const DISCS: [(f64, f64, f64, f64); 7] = [
    (0.30, 0.25, 0.13, 1.00),
    (0.68, 0.42, 0.09, 0.85),
    (0.25, 0.75, 0.06, 0.00),
    (0.40, 1.05, 0.15, 0.95),
    (0.80, 0.90, 0.05, 0.00),
    (0.75, 1.28, 0.08, 1.00),
    (0.82, 0.15, 0.07, 0.70),
];

/// Size of the whole plate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Shape {
    /// The temperature that a cell is held at, if it is.
    fn held(self, row: usize, column: usize) -> Option<f64> {
        let height = self.rows as f64;
        // Stretched so that all discs lie on the plate whatever its proportions.
        let stretch = 1.5 * height / self.columns as f64;
        let (y, x) = ((row as f64 + 0.5) / height, (column as f64 + 0.5) * stretch / height);
        let inside = |&&(disc_y, disc_x, radius, _): &&(f64, f64, f64, f64)| {
            (y - disc_y) * (y - disc_y) + (x - disc_x) * (x - disc_x) <= radius * radius
        };
        DISCS.iter().find(inside).map(|&(.., temperature)| temperature)
    }
}

/// One rank's rows.
pub(crate) struct Block {
    rank: usize,
    /// Ranks that have rows: with more ranks than rows the last ones have none.
    owners: usize,
    rows: usize,
    /// Cells of the plate in a row.
    columns: usize,
    now: Vec<f64>,
    next: Vec<f64>,
    /// Positions and temperatures of the cells that are held.
    held: Vec<(usize, f64)>,
}

impl Block {
    /// The rows that `rank` of `size` has of the plate, cold but for the cells that are held.
    pub(crate) fn new(shape: Shape, rank: usize, size: usize) -> Self {
        let owners = size.min(shape.rows);
        let cut = |rank: usize| shape.rows * rank.min(owners) / owners;
        let (start, end) = (cut(rank), cut(rank + 1));
        let width = shape.columns + 2;
        let mut now = vec![0.0; (end - start + 2) * width];
        let mut held = Vec::new();
        for row in start..end {
            for column in 0..shape.columns {
                let position = (row - start + 1) * width + column + 1;
                held.extend(shape.held(row, column).map(|temperature| (position, temperature)));
            }
        }
        held.iter().for_each(|&(position, temperature)| now[position] = temperature);
        Self { rank, owners, rows: end - start, columns: shape.columns, next: now.clone(), now, held }
    }

    /// Cells in a row with its frame.
    fn width(&self) -> usize {
        self.columns + 2
    }

    /// The rank with the rows above these, if there are any.
    pub(crate) fn above(&self) -> Option<usize> {
        if self.rows > 0 { self.rank.checked_sub(1) } else { None }
    }

    /// The rank with the rows below these, if there are any.
    pub(crate) fn below(&self) -> Option<usize> {
        Some(self.rank + 1).filter(|&below| below < self.owners)
    }

    /// What the rank above needs, and where what comes from below goes.
    pub(crate) fn first_row_and_halo_below(&mut self) -> (&[f64], &mut [f64]) {
        // A block without rows has no neighbours to ask for one: a halo row stands in.
        let (width, first) = (self.width(), self.rows.min(1));
        let (own, halo_below) = self.now.split_at_mut((self.rows + 1) * width);
        (&own[first * width..][..width], halo_below)
    }

    /// What the rank below needs, and where what comes from above goes.
    pub(crate) fn last_row_and_halo_above(&mut self) -> (&[f64], &mut [f64]) {
        let (width, last) = (self.width(), self.rows);
        let (halo_above, own) = self.now.split_at_mut(width);
        (&own[last.saturating_sub(1) * width..][..width], halo_above)
    }

    /// One step in time: every cell takes over a part of the difference to its four neighbours.
    pub(crate) fn step(&mut self) {
        let (width, columns) = (self.width(), self.columns);
        for row in 1..=self.rows {
            // The cells beside each cell of the row, as slices of one length: no bounds are checked within the loop.
            let cells = |row: usize, first: usize| &self.now[row * width + first..][..columns];
            let (above, below) = (cells(row - 1, 1), cells(row + 1, 1));
            let (left, here, right) = (cells(row, 0), cells(row, 1), cells(row, 2));
            let next = &mut self.next[row * width + 1..][..columns];
            for column in 0..columns {
                // Addition in this order whoever owns the rows: that makes the bits the same.
                let around = (above[column] + below[column]) + (left[column] + right[column]);
                next[column] = here[column] + DIFFUSIVITY * (around - 4.0 * here[column]);
            }
        }
        self.held.iter().for_each(|&(position, temperature)| self.next[position] = temperature);
        std::mem::swap(&mut self.now, &mut self.next);
    }

    /// The block's cells, row by row, without frame and halos.
    pub(crate) fn cells(&self) -> Vec<f64> {
        let rows = self.now.chunks_exact(self.width()).skip(1).take(self.rows);
        rows.flat_map(|row| &row[1..=self.columns]).copied().collect()
    }
}
