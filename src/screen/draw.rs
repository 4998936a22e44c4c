//! The picture of a training.

use ocelli_common::text::{printable, thousands};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph};

use super::state::{Epoch, State};
use crate::progress::duration;

/// Smallest screen that has room for curves.
const FOR_CURVES: (u16, u16) = (70, 18);
/// Columns of the list of mistakes, and the smallest width of a screen with it.
const MISTAKES: u16 = 36;
const FOR_MISTAKES: u16 = 110;
/// Lines of remarks.
const REMARKS: u16 = 4;

/// Blue and orange are told apart by colour-blind people (Okabe and Ito, 2008).
const TRAIN: Color = Color::Blue;
const VALIDATION: Color = Color::Yellow;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let with_curves = area.width >= FOR_CURVES.0 && area.height >= FOR_CURVES.1;
    let middle = if with_curves { Constraint::Min(8) } else { Constraint::Length(0) };
    let [head, gauge, last, middle, remarks, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(3),
        Constraint::Length(1),
        middle,
        Constraint::Length(REMARKS),
        Constraint::Length(1),
    ])
    .areas(area);
    let lines: Vec<Line> = [("data", &state.data), ("model", &state.model), ("run", &state.run)]
        .into_iter()
        .map(|(name, value)| {
            Line::from(vec![Span::styled(format!("{name:<6}"), quiet()), Span::raw(value.as_str())])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), head);
    progress(frame, gauge, state);
    if let Some(epoch) = state.epochs.last() {
        frame.render_widget(Paragraph::new(epoch_line(epoch)), last);
    }
    if with_curves {
        let side = if area.width >= FOR_MISTAKES { MISTAKES } else { 0 };
        let [curves, mistakes] =
            Layout::horizontal([Constraint::Min(30), Constraint::Length(side)]).areas(middle);
        let [loss, accuracy] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(curves);
        chart(frame, loss, ("loss", &|e| Some(e.train_loss), &|e| e.val_loss), &state.epochs);
        chart(frame, accuracy, ("accuracy", &|e| Some(e.train_accuracy), &|e| e.val_accuracy), &state.epochs);
        if side > 0 {
            wrong(frame, mistakes, state);
        }
    }
    let from = state.remarks().len().saturating_sub(REMARKS.into());
    let lines: Vec<Line> = state.remarks()[from..].iter().map(|text| Line::raw(text.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).style(quiet()), remarks);
    let keys = match state.stopping {
        true => "stopping after this batch; q again stops at once",
        false => "q: stop after this batch and save",
    };
    frame.render_widget(Paragraph::new(keys).style(quiet()), foot);
}

fn quiet() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn progress(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let now = &state.progress;
    let mut label = now.what.clone();
    if let Some(loss) = now.loss {
        label += &format!(", loss {loss:.4}");
    }
    if let Some(speed) = now.images_per_second {
        label += &format!(", {} images/s", thousands(speed as u64));
    }
    if let Some(left) = now.left {
        label += &format!(", {} left", duration(left));
    }
    let gauge = Gauge::default().block(Block::bordered()).ratio(now.part).label(label).use_unicode(true);
    frame.render_widget(gauge.gauge_style(Style::new().fg(TRAIN)), area);
}

fn epoch_line(epoch: &Epoch) -> String {
    let mut text = format!(
        "epoch {}  loss {:.4}  accuracy {:.2} %",
        epoch.epoch,
        epoch.train_loss,
        100.0 * epoch.train_accuracy
    );
    if let (Some(loss), Some(accuracy)) = (epoch.val_loss, epoch.val_accuracy) {
        text += &format!("  validation loss {loss:.4}  validation accuracy {:.2} %", 100.0 * accuracy);
    }
    text += &format!("  {}", duration(epoch.seconds));
    if epoch.best {
        text += "  best";
    }
    text
}

/// A number of an epoch.
type Value<'a> = &'a dyn Fn(&Epoch) -> Option<f32>;

/// Two curves over the epochs.
fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    (name, train, val): (&str, Value<'_>, Value<'_>),
    epochs: &[Epoch],
) {
    let points = |value: Value<'_>| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|e| Some((e.epoch.into(), value(e)?.into()))).collect()
    };
    let (train, val) = (points(train), points(val));
    let values = || train.iter().chain(&val).map(|point| point.1);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if low < high { (low, high) } else { (0.0, 1.0) };
    let last = epochs.last().map_or(2.0, |epoch| f64::from(epoch.epoch.max(2)));
    let line = |name, colour, points| {
        Dataset::default()
            .name(name)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(points)
    };
    let sets = vec![line("train", TRAIN, &train), line("validation", VALIDATION, &val)];
    let number = |value: f64| format!("{value:.3}");
    let chart = Chart::new(sets)
        .block(Block::bordered().title(name))
        .x_axis(Axis::default().bounds([1.0, last]).labels(["1".to_owned(), format!("{last:.0}")]))
        .y_axis(Axis::default().bounds([low, high]).labels([number(low), number(high)]));
    frame.render_widget(chart, area);
}

/// What is mixed up, and the images that it is most wrong about.
fn wrong(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let pairs = state.pairs.iter().map(|pair| {
        format!("{} x {} taken for {}", pair.images, printable(&pair.label), printable(&pair.predicted))
    });
    let images = state.images.iter().map(|row| {
        let name = row.name.rsplit('/').next().unwrap_or_default();
        let sure = 100.0 * row.probability;
        format!("{} -> {} {sure:.0} %  {}", printable(&row.label), printable(&row.predicted), printable(name))
    });
    let lines: Vec<Line> = pairs.chain([String::new()]).chain(images).map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("wrong")), area);
}

#[cfg(test)]
mod tests {
    use ocelli_pipeline::{Confusion, Event, PredictionRow};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    /// The text of a screen, line by line.
    fn screen(width: u16, height: u16, state: &State) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>() + "\n";
        (0..height).map(row).collect()
    }

    fn state() -> State {
        let mut state = State::default();
        let events = [
            Event::Model {
                name: "resnet9".to_owned(),
                parameters: 1_234_567,
                run_dir: "runs/x-001".to_owned(),
            },
            Event::Mistakes {
                epoch: 1,
                pairs: vec![Confusion { label: "cat".to_owned(), predicted: "dog".to_owned(), images: 12 }],
                images: vec![PredictionRow {
                    name: "a/7.jpg".to_owned(),
                    label: "\u{1b}[31mcat".to_owned(),
                    predicted: "dog".to_owned(),
                    probability: 0.987,
                    loss: 4.0,
                }],
            },
            Event::Step {
                epoch: 2,
                epochs: 4,
                step: 5,
                steps: 10,
                loss: 0.5,
                images_per_second: 1200.0,
                eta_s: 61.0,
            },
            Event::Note { text: "few images".to_owned() },
        ];
        events.iter().for_each(|event| state.take(event));
        for epoch in 1..=3 {
            state.epochs.push(Epoch {
                epoch,
                train_loss: 1.0 / epoch as f32,
                train_accuracy: 0.5,
                val_loss: Some(0.7),
                val_accuracy: Some(0.75),
                seconds: 3.0,
                best: epoch == 3,
            });
        }
        state
    }

    #[test]
    fn a_wide_screen_shows_curves_speed_and_mistakes() {
        let text = screen(130, 30, &state());
        for part in [
            "resnet9, 1,234,567 parameters",
            "runs/x-001",
            "epoch 2 of 4, step 5 of 10, loss 0.5000, 1,200 images/s",
            "epoch 3  loss 0.3333",
            "validation accuracy 75.00 %",
            "best",
            "12 x cat taken for dog",
            "99 %  7.jpg",
            "few images",
            "q: stop",
            "accuracy",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn every_size_of_a_screen_is_drawn() {
        let (full, empty) = (state(), State::default());
        for width in [1, 2, 20, 69, 70, 109, 110, 300] {
            for height in [1, 2, 5, 12, 17, 18, 100] {
                screen(width, height, &full);
                screen(width, height, &empty);
            }
        }
        assert!(screen(60, 14, &full).contains("epoch 3  loss"));
    }

    #[test]
    fn losses_that_are_no_numbers_do_not_end_it() {
        let mut state = state();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            state.epochs[1].train_loss = value;
            state.epochs[2].val_loss = Some(value);
            screen(130, 30, &state);
        }
    }
}
