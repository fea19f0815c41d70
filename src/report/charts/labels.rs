//! The places of the texts in a chart, so that no text covers another text, and as few texts as
//! possible cover a line.

/// The size of the font.
const FONT: f64 = 13.0;
/// Points on a line are at most this far from each other, so no character fits between them.
pub(super) const NARROW: f64 = 5.0;
/// The height of a line of text.
pub(super) const LINE: f64 = 14.0;

/// A rectangle in the chart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Area {
    fn of(text: &str, (left, baseline): (f64, f64)) -> Area {
        let right = left + width(text);
        Area { left, right, top: baseline - LINE + 3.0, bottom: baseline + 3.0 }
    }

    fn overlaps(&self, other: &Area) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn has_inside(&self, other: &Area) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }

    fn contains(&self, (x, y): (f64, f64)) -> bool {
        (self.left..self.right).contains(&x) && (self.top..self.bottom).contains(&y)
    }
}

/// The width of a text in a wide font. The page has the font of the reader's system, so the real
/// width is not known.
pub(super) fn width(text: &str) -> f64 {
    text.chars().map(character_width).sum()
}

fn character_width(character: char) -> f64 {
    let ems = match character {
        'i' | 'j' | 'l' | 'f' | 't' | 'r' | 'I' | ' ' | '.' | ',' | ':' | ';' | '!' | '|'
        | '\'' | '(' | ')' | '/' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' | '→' => 1.0,
        'A'..='Z' | '<' | '>' | '=' | '+' | '≈' | '≤' | '↑' | '&' => 0.84,
        ' '..='~' => 0.65,
        _ => 1.05,
    };
    ems * FONT
}

/// Shortens a text to a width. `None` if less than three characters fit.
pub(super) fn fitted(text: &str, available: f64) -> Option<String> {
    if width(text) <= available {
        return Some(text.to_owned());
    }
    let mut left = available - character_width('…');
    let fits = |character: &char| {
        left -= character_width(*character);
        left >= 0.0
    };
    let start: String = text.chars().take_while(fits).collect();
    (start.chars().count() >= 2).then(|| format!("{}…", start.trim_end()))
}

/// The free places of a chart.
pub(super) struct Labels {
    /// No text extends beyond this area.
    pub bounds: Area,
    /// No text covers these areas.
    pub occupied: Vec<Area>,
    /// Points on the lines of the chart, so near to each other that no text fits between them.
    pub traces: Vec<(f64, f64)>,
}

impl Labels {
    /// Occupies the first place of a text that covers the fewest points of lines, and returns its
    /// left end and its baseline. `None` if no place is free.
    pub fn place(
        &mut self,
        text: &str,
        places: impl IntoIterator<Item = (f64, f64)>,
    ) -> Option<(f64, f64)> {
        let is_free = |place: &(f64, f64)| {
            let area = Area::of(text, *place);
            self.bounds.has_inside(&area)
                && !self.occupied.iter().any(|other| other.overlaps(&area))
        };
        let covered = |place: &(f64, f64)| {
            let area = Area::of(text, *place);
            self.traces.iter().filter(|point| area.contains(**point)).count()
        };
        let place = places.into_iter().filter(is_free).min_by_key(covered)?;
        self.occupied.push(Area::of(text, place));
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_first_place_that_covers_the_least() {
        let bounds = Area { left: 0.0, right: 200.0, top: 0.0, bottom: 100.0 };
        let traces = vec![(20.0, 45.0), (20.0, 75.0), (21.0, 75.0)];
        let mut labels = Labels { bounds, occupied: Vec::new(), traces };
        let places = [(190.0, 50.0), (10.0, 80.0), (10.0, 50.0), (12.0, 49.0)];
        assert_eq!(labels.place("text", places), Some((10.0, 50.0)));
        // The last place overlaps the first text.
        assert_eq!(labels.place("text", places), Some((10.0, 80.0)));
        assert_eq!(labels.place("text", places), None);
    }

    #[test]
    fn a_text_is_shortened_to_its_width() {
        assert_eq!(fitted("peak", width("peak")).unwrap(), "peak");
        assert_eq!(fitted("evening peak", width("even…") + 1.0).unwrap(), "even…");
        assert_eq!(fitted("evening peak", width("evening …") + 1.0).unwrap(), "evening…");
        assert_eq!(fitted("evening peak", width("e…") + 1.0), None);
    }
}
