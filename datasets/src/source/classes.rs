//! Which classes of a source a model is to know, and in which order.

use super::{Source, Store};
use crate::Split;
use crate::item::Item;
use crate::names::nfc;
use ocelli_common::text::{count, some_of};
use std::collections::HashMap;

impl Source {
    /// Renumbers the classes: `first` in their order and spelling, whether they have images or not, then those that
    /// `first` lacks. Classes whose names are the same after NFC become one; see [`crate::names`].
    pub fn align_classes(&mut self, first: &[String]) {
        let mut classes = first.to_vec();
        let mut exact: HashMap<String, u32> = HashMap::new();
        let mut composed: HashMap<String, u32> = HashMap::new();
        for (id, name) in (0..).zip(first) {
            exact.entry(name.clone()).or_insert(id);
            composed.entry(nfc(name).into_owned()).or_insert(id);
        }
        let mut new_id = |name: &String| {
            // Of a model that has both spellings, each keeps its own images.
            if let Some(&id) = exact.get(name) {
                return id;
            }
            *composed.entry(nfc(name).into_owned()).or_insert_with(|| {
                classes.push(name.clone());
                classes.len() as u32 - 1
            })
        };
        let ids: Vec<Option<u32>> = self.classes.iter().map(&mut new_id).map(Some).collect();
        for item in &mut self.items {
            item.labels = item.labels.clone().renumbered(&ids).expect("every class has a new number");
        }
        self.classes = classes;
    }

    /// Notes which of the first `known` classes, which a model that training starts from knows, have no image to train on.
    pub fn note_fading(&mut self, known: usize) {
        let trained = self.trained();
        let fading: Vec<&str> = (0..known.min(trained.len()))
            .filter(|&id| !trained[id])
            .map(|id| self.classes[id].as_str())
            .collect();
        if !fading.is_empty() && trained.contains(&true) {
            let names = some_of(&fading);
            self.notes.push(format!("no training images of {names}: what the model knows of them may fade"));
        }
    }

    /// Whether there are images to train on, by class.
    fn trained(&self) -> Vec<bool> {
        let mut trained = vec![false; self.classes.len()];
        for item in self.items.iter().filter(|item| matches!(item.split, None | Some(Split::Train))) {
            item.labels.as_slice().iter().for_each(|&label| trained[label as usize] = true);
        }
        trained
    }

    /// Leaves out the classes that have no image to train on, with what images they have: a class that is never trained
    /// can only be wrong. Images of any number of labels stay, without these. The first `keep` classes stay, as a model that
    /// training starts from knows them. What was left out is noted and given, too.
    ///
    /// Images for training are those that the layout declares so and those without a declaration. Nothing is done where
    /// there are none at all.
    pub fn drop_untrained(&mut self, keep: usize) -> Option<String> {
        let trained = self.trained();
        if !trained.contains(&true) || !trained.contains(&false) {
            return None;
        }
        let untrained = |id: &usize| !trained[*id];
        let left_out: Vec<usize> = (keep..trained.len()).filter(untrained).collect();
        if left_out.is_empty() {
            return None;
        }
        let reason = self.reason(&left_out);
        self.notes.push(reason.clone());
        self.leave_out(&left_out);
        Some(reason)
    }

    /// Why classes are left out: `left out: 2 images of owls in val: the class has no training image`.
    fn reason(&self, classes: &[usize]) -> String {
        let one = |&class: &usize| {
            let of = |split| {
                let has = |item: &Item| item.labels.as_slice().contains(&(class as u32));
                self.items.iter().filter(|item| has(item) && item.split == Some(split)).count()
            };
            let (val, test) = (of(Split::Val), of(Split::Test));
            let where_ = match (val, test) {
                (0, 0) => "no image".to_owned(),
                (n, 0) => format!("{} in val", count(n, "image")),
                (0, n) => format!("{} in test", count(n, "image")),
                (v, t) => format!("{} in val and {t} in test", count(v, "image")),
            };
            format!("{} ({where_})", self.classes[class])
        };
        let named: Vec<String> = classes.iter().map(one).collect();
        let named = some_of(&named.iter().map(String::as_str).collect::<Vec<_>>());
        let what = if classes.len() == 1 { "the class has" } else { "these classes have" };
        format!("left out: {named}: {what} no training image")
    }

    /// Adds a note for people.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Takes classes away, with their images; images of any number of labels stay, without these.
    pub fn leave_out(&mut self, classes: &[usize]) {
        let ids = ids_without(self.classes.len(), classes);
        self.classes = kept(&self.classes, &ids);
        let mut places = Vec::new();
        let mut at = 0;
        self.items.retain_mut(|item| {
            at += 1;
            let kept = item.labels.clone().renumbered(&ids).map(|labels| item.labels = labels).is_some();
            places.extend(kept.then_some(at - 1));
            kept
        });
        if places.len() < at {
            let store = std::mem::replace(&mut self.store, Store::Files(Vec::new()));
            self.store = Store::Picked { store: Box::new(store), places };
        }
    }
}

/// New ids of `n` classes, `None` for those that are left out.
pub(crate) fn ids_without(n: usize, left_out: &[usize]) -> Vec<Option<u32>> {
    let mut next = 0..;
    (0..n).map(|id| if left_out.contains(&id) { None } else { next.next() }).collect()
}

/// The names of the classes that have a new id.
pub(crate) fn kept(names: &[String], ids: &[Option<u32>]) -> Vec<String> {
    names.iter().zip(ids).filter(|(_, id)| id.is_some()).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests;
