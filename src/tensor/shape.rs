//! Shapes and which of them go together.

use std::fmt;

/// The extents of an array, outermost first. Rank 0 is a single number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    pub fn new(extents: &[usize]) -> Self {
        Shape(extents.to_vec())
    }

    pub fn scalar() -> Self {
        Shape(Vec::new())
    }

    pub fn extents(&self) -> &[usize] {
        &self.0
    }

    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// How many numbers; saturates rather than wrapping.
    pub fn len(&self) -> usize {
        self.0
            .iter()
            .fold(1usize, |product, &extent| product.saturating_mul(extent))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The innermost extent; 1 for a single number.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// The product of all extents but the innermost.
    pub fn outer(&self) -> usize {
        self.0[..self.rank().saturating_sub(1)].iter().product()
    }

    /// This shape with the innermost extent replaced by 1: one number per row.
    pub fn column(&self) -> Shape {
        let mut extents = self.0.clone();
        if let Some(last) = extents.last_mut() {
            *last = 1;
        }
        Shape(extents)
    }

    /// The shape two operands have together by NumPy's rule: extents are compared from the innermost outwards, and
    /// an extent that is 1 or missing follows the other.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let at = |shape: &Shape, axis: usize| {
            (axis + shape.rank())
                .checked_sub(rank)
                .map_or(1, |axis| shape.0[axis])
        };
        (0..rank)
            .map(|axis| match (at(self, axis), at(other, axis)) {
                (a, b) if a == b || b == 1 => Some(a),
                (1, b) => Some(b),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Shape)
    }

    /// How an operand of this shape is spread over `whole`, or `None` when it does not fit.
    pub fn spread_over(&self, whole: &Shape) -> Option<Spread> {
        if self == whole {
            return Some(Spread::Full);
        }
        if self.len() == 1 {
            return Some(Spread::Scalar);
        }
        // Leading extents of 1 say nothing about how the rest is laid out.
        let leading = self.0.iter().take_while(|&&extent| extent == 1).count();
        let row = &self.0[leading..];
        if self.rank() <= whole.rank() && whole.0.ends_with(row) {
            return Some(Spread::Row);
        }
        (self.rank() == whole.rank() && *self == whole.column()).then_some(Spread::Column)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "(")?;
        for (position, extent) in self.0.iter().enumerate() {
            write!(
                formatter,
                "{}{extent}",
                if position > 0 { ", " } else { "" }
            )?;
        }
        write!(formatter, ")")
    }
}

/// How an operand is repeated to fill a larger shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spread {
    /// The operand has the whole shape.
    Full,
    /// The operand fills the trailing extents and is repeated along the leading ones (a bias).
    Row,
    /// The operand has one number per row and is repeated along the innermost extent (a row weight).
    Column,
    /// One number for all.
    Scalar,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_spread_as_a_bias_a_row_weight_or_a_number() {
        let whole = Shape::new(&[4, 3]);
        assert_eq!(Shape::new(&[4, 3]).spread_over(&whole), Some(Spread::Full));
        assert_eq!(Shape::new(&[3]).spread_over(&whole), Some(Spread::Row));
        assert_eq!(
            Shape::new(&[4, 1]).spread_over(&whole),
            Some(Spread::Column)
        );
        assert_eq!(Shape::scalar().spread_over(&whole), Some(Spread::Scalar));
        assert_eq!(Shape::new(&[1, 3]).spread_over(&whole), Some(Spread::Row));
        assert_eq!(Shape::new(&[4]).spread_over(&whole), None);
        assert_eq!(Shape::new(&[2, 4, 3]).spread_over(&whole), None);
    }

    #[test]
    fn two_shapes_go_together_by_the_rule_of_numpy() {
        let together = |a: &[usize], b: &[usize]| Shape::new(a).broadcast(&Shape::new(b));
        assert_eq!(together(&[4, 1], &[3]), Some(Shape::new(&[4, 3])));
        assert_eq!(together(&[2, 1, 3], &[4, 1]), Some(Shape::new(&[2, 4, 3])));
        assert_eq!(together(&[], &[0, 2]), Some(Shape::new(&[0, 2])));
        assert_eq!(together(&[4], &[4, 3]), None);
    }
}
