//! Which parameters move at which rate, as ranges of the flat buffer.

use std::ops::Range;

use super::muon::Matrix;
use crate::error::EngineError;
use crate::graph::ParamKind;
use crate::params::ParamLayout;

/// Which parameters weight decay applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decay {
    /// All that are learnt, as PyTorch does by itself.
    #[default]
    All,
    /// The weights of convolutions and dense layers; biases, scales and shifts are left alone.
    Weights,
}

/// How some parameters move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule {
    /// Factor of the learning rate, above zero.
    pub(crate) rate: f64,
    /// Whether weight decay applies.
    pub(crate) decays: bool,
    /// Whether it is a matrix that has an orthogonal step.
    pub(crate) matrix: bool,
}

/// Neighbouring parameters with one rule; `None` for those that never move.
#[derive(Debug, PartialEq)]
struct Segment {
    end: usize,
    rule: Option<Rule>,
}

/// The learnable parameters of a network, cut where the rule changes. Each tensor takes the padding behind it along, so
/// that segments lie side by side.
#[derive(Debug, PartialEq)]
pub(crate) struct Groups(Vec<Segment>);

/// What is learnt, and how fast.
#[derive(Clone, Copy)]
pub(crate) struct Moving<'a> {
    /// A factor of the learning rate for each node, or none for 1 everywhere. A node with factor 0 never moves.
    pub(crate) rates: &'a [f32],
    /// The first so many nodes never move.
    pub(crate) frozen: usize,
    pub(crate) decay: Decay,
}

impl Groups {
    /// Groups of the layout of a network of `nodes` nodes, of which `matrices` have an orthogonal step.
    ///
    /// # Errors
    /// [`EngineError::Config`] when there are not as many factors as nodes, or one is negative or not finite.
    pub(crate) fn new(
        layout: &ParamLayout,
        nodes: usize,
        Moving { rates, frozen, decay }: Moving,
        matrices: &[Matrix],
    ) -> Result<Groups, EngineError> {
        if !rates.is_empty() && rates.len() != nodes {
            let found = rates.len();
            return Err(EngineError::Config(format!(
                "the network has {nodes} layers, but rates are given for {found}"
            )));
        }
        if let Some(rate) = rates.iter().find(|rate| !(rate.is_finite() && **rate >= 0.0)) {
            return Err(EngineError::Config(format!(
                "a layer's rate of {rate} must be 0 or more and finite"
            )));
        }
        let learnt: Vec<_> = layout.entries().iter().filter(|entry| entry.kind.is_trainable()).collect();
        let mut segments: Vec<Segment> = Vec::new();
        for (i, entry) in learnt.iter().enumerate() {
            let rate = rates.get(entry.node()).map_or(1.0, |&rate| f64::from(rate));
            let decays = decay == Decay::All || entry.kind == ParamKind::Weight;
            let moves = rate > 0.0 && entry.node() >= frozen;
            let matrix = matrices.iter().any(|matrix| matrix.range == entry.range());
            let rule = moves.then_some(Rule { rate, decays, matrix });
            let end = learnt.get(i + 1).map_or(layout.trainable(), |next| next.offset);
            match segments.last_mut() {
                Some(last) if last.rule == rule => last.end = end,
                _ => segments.push(Segment { end, rule }),
            }
        }
        Ok(Groups(segments))
    }

    /// The rule of one parameter.
    pub(crate) fn rule_of(&self, index: usize) -> Option<Rule> {
        let at = self.0.partition_point(|segment| segment.end <= index);
        self.0.get(at).and_then(|segment| segment.rule)
    }

    /// Calls `f` for each part of the parameters `piece` that one rule moves, in order; the part's range counts from the
    /// start of the piece.
    pub(crate) fn each(&self, piece: Range<usize>, mut f: impl FnMut(Range<usize>, Rule)) {
        let first = self.0.partition_point(|segment| segment.end <= piece.start);
        let mut start = piece.start;
        for segment in &self.0[first..] {
            if start == piece.end {
                break;
            }
            let end = segment.end.min(piece.end);
            if let Some(rule) = segment.rule {
                f(start - piece.start..end - piece.start, rule);
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Shape;
    use crate::zoo;

    fn network() -> (ParamLayout, usize) {
        let graph = zoo::build("resnet9", Shape::new(32, 32, 3), 10).unwrap();
        (ParamLayout::new(&graph).unwrap(), graph.nodes.len())
    }

    #[test]
    fn every_parameter_has_the_rule_of_its_node_and_kind_however_pieces_are_cut() {
        let (layout, nodes) = network();
        let rates: Vec<f32> = (0..nodes).map(|node| (node % 3) as f32 * 0.5).collect();
        for decay in [Decay::All, Decay::Weights] {
            let frozen = nodes / 5;
            let groups = Groups::new(&layout, nodes, Moving { rates: &rates, frozen, decay }, &[]).unwrap();
            for len in [977, 8192, layout.trainable()] {
                let mut found = vec![None; layout.trainable()];
                for start in (0..layout.trainable()).step_by(len) {
                    let piece = start..(start + len).min(layout.trainable());
                    groups.each(piece, |range, rule| {
                        for place in &mut found[start + range.start..start + range.end] {
                            assert_eq!(place.replace(rule), None, "no parameter moves twice");
                        }
                    });
                }
                for entry in layout.entries().iter().filter(|entry| entry.kind.is_trainable()) {
                    let rate = f64::from(rates[entry.node()]);
                    let decays = decay == Decay::All || entry.kind == ParamKind::Weight;
                    let moves = rate > 0.0 && entry.node() >= frozen;
                    let expected = moves.then_some(Rule { rate, decays, matrix: false });
                    assert!(found[entry.range()].iter().all(|rule| *rule == expected), "{}", entry.name);
                }
            }
        }
    }

    #[test]
    fn without_rates_all_is_one_group() {
        let (layout, nodes) = network();
        let moving = Moving { rates: &[], frozen: 0, decay: Decay::All };
        let groups = Groups::new(&layout, nodes, moving, &[]).unwrap();
        let rule = Some(Rule { rate: 1.0, decays: true, matrix: false });
        assert_eq!(groups, Groups(vec![Segment { end: layout.trainable(), rule }]));
        groups.each(0..0, |_, _| panic!("an empty piece has no part"));
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        let (layout, nodes) = network();
        for rates in
            [vec![1.0; nodes + 1], vec![-1.0; nodes], vec![f32::NAN; nodes], vec![f32::INFINITY; nodes]]
        {
            let moving = Moving { rates: &rates, frozen: 0, decay: Decay::All };
            let groups = Groups::new(&layout, nodes, moving, &[]);
            assert!(matches!(groups, Err(EngineError::Config(_))));
        }
    }
}
