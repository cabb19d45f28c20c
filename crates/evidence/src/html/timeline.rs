//! The drawing of a timeline: a lane for each layer, a numbered mark for each moment, and the list of them.

use std::fmt::{self, Write};

use super::{escape, number};
use crate::{Layer, Moment};

/// Size of the drawing in its own units; the page scales it.
const WIDTH: f64 = 960.0;
const LANE: f64 = 34.0;
/// Room for the lanes' names on the left, for the axis below.
const LEFT: f64 = 96.0;
const RIGHT: f64 = 24.0;
const AXIS: f64 = 26.0;
/// Two marks closer than this would hide each other: the later one is drawn beside the earlier.
const APART: f64 = 18.0;
/// Steps of the axis, about.
const TICKS: f64 = 6.0;

/// Draws moments, oldest first.
pub(super) fn draw(out: &mut String, moments: &[Moment]) -> fmt::Result {
    if moments.is_empty() {
        return Ok(());
    }
    let lanes: Vec<Layer> =
        Layer::ALL.into_iter().filter(|layer| moments.iter().any(|m| m.layer == *layer)).collect();
    let end_ms = moments.iter().map(|m| m.after_ms).fold(1.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "there are four layers")]
    let lane_y = |lane: usize| lane as f64 * LANE + LANE / 2.0;
    let bottom = lane_y(lanes.len()) - LANE / 2.0;
    write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"timeline\" \
         xmlns=\"http://www.w3.org/2000/svg\">",
        bottom + AXIS
    )?;
    let x = |ms: f64| LEFT + ms / end_ms * (WIDTH - LEFT - RIGHT);
    axis(out, end_ms, bottom, x)?;
    for (lane, layer) in lanes.iter().enumerate() {
        let y = lane_y(lane);
        write!(out, "<text x=\"0\" y=\"{}\" class=\"lane\">{}</text>", y + 4.0, layer.name())?;
        write!(out, "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" class=\"lane\"/>", WIDTH - RIGHT)?;
        let mut last = f64::NEG_INFINITY;
        for (index, moment) in moments.iter().enumerate().filter(|(_, m)| m.layer == *layer) {
            let at = x(moment.after_ms).max(last + APART);
            last = at;
            let title = escape(&moment.what);
            write!(
                out,
                "<g><title>{title}</title><circle cx=\"{at:.1}\" cy=\"{y}\" r=\"8\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" class=\"mark\">{}</text></g>",
                y + 4.0,
                index + 1
            )?;
        }
    }
    out.push_str("</svg>\n");
    list(out, moments)
}

fn axis(out: &mut String, end_ms: f64, bottom: f64, x: impl Fn(f64) -> f64) -> fmt::Result {
    let step = step(end_ms);
    let mut ms = 0.0;
    while ms <= end_ms {
        let at = x(ms);
        write!(out, "<line x1=\"{at:.1}\" y1=\"0\" x2=\"{at:.1}\" y2=\"{bottom}\" class=\"tick\"/>")?;
        write!(out, "<text x=\"{at:.1}\" y=\"{}\" class=\"tick\">{} ms</text>", bottom + 16.0, number(ms))?;
        ms += step;
    }
    Ok(())
}

/// A step of 1, 2 or 5 times a power of ten that divides the axis into about [`TICKS`] parts.
fn step(end_ms: f64) -> f64 {
    let rough = (end_ms / TICKS).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}

fn list(out: &mut String, moments: &[Moment]) -> fmt::Result {
    out.push_str("<table><tr><th></th><th>After</th><th>Layer</th><th>What</th><th>Detail</th></tr>");
    for (number_of, moment) in (1..).zip(moments) {
        let number_of: u32 = number_of;
        write!(
            out,
            "<tr><td class=\"n\">{number_of}</td><td class=\"n\" title=\"{}\">{} ms</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            moment.at,
            number(moment.after_ms),
            moment.layer.name(),
            escape(&moment.what),
            escape(&moment.detail)
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps_and_not_too_many() {
        for (end_ms, expected) in [(1.0, 0.2), (60.0, 10.0), (348.0, 100.0), (3137.0, 1000.0), (9e6, 2e6)] {
            let step = step(end_ms);
            assert!((step - expected).abs() < expected / 1e6, "{end_ms}: {step}");
        }
    }
}
