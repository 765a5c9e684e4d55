// Which sums of blocks of a and b Strassen multiplies, and which blocks of the output each product
// enters, as data.
//
// a, b and the output are cut into side x side blocks, side = 2^levels, numbered row by row. One
// level has 7 products in place of 8; each further level does the same to every product.
#pragma once

#include <array>
#include <cstdint>

namespace ablation::strassen {

/// A block with its sign; a target has besides whether it is the first and the last of its block.
struct Term {
    int block;
    int sign;
    bool is_first = false;
    bool is_last = false;
};

inline constexpr int kMaxTerms = 4;  ///< of two levels

struct Terms {
    std::array<Term, kMaxTerms> terms{};
    int count = 0;

    constexpr void add(const Term& term) { terms[static_cast<std::size_t>(count++)] = term; }
    constexpr const Term* begin() const { return terms.data(); }
    constexpr const Term* end() const { return terms.data() + count; }
    constexpr const Term& operator[](int index) const {
        return terms[static_cast<std::size_t>(index)];
    }
    constexpr Term& operator[](int index) { return terms[static_cast<std::size_t>(index)]; }
};

/// c += (sum of a) (sum of b) for each target c. The first term of a sum has the sign 1.
struct Product {
    Terms a, b, c;
};

template <int levels>
inline constexpr int kSide = 1 << levels;
template <int levels>
inline constexpr int kProducts = 7 * kProducts<levels - 1>;
template <>
inline constexpr int kProducts<0> = 1;

template <int levels>
using Scheme = std::array<Product, kProducts<levels>>;

constexpr Terms terms(int block) { return {{Term{block, 1}}, 1}; }
constexpr Terms terms(int one, int other, int sign) { return {{Term{one, 1}, {other, sign}}, 2}; }

/// Strassen 1969, blocks 0 1 / 2 3, in an order in which neighbours share a block of a.
inline constexpr Scheme<1> kOneLevel = {{
    {terms(0, 3, 1), terms(0, 3, 1), terms(0, 3, 1)},
    {terms(2, 3, 1), terms(0), terms(2, 3, -1)},
    {terms(2, 0, -1), terms(0, 1, 1), terms(3)},
    {terms(0), terms(1, 3, -1), terms(1, 3, 1)},
    {terms(0, 1, 1), terms(3), terms(1, 0, -1)},
    {terms(1, 3, -1), terms(2, 3, 1), terms(0)},
    {terms(3), terms(2, 0, -1), terms(0, 2, 1)},
}};

/// Blocks of blocks: `side` is the inner one.
constexpr Terms nested(const Terms& outer, const Terms& inner, int side) {
    Terms result;
    for (const Term& far : outer) {
        for (const Term& near : inner) {
            const int row = far.block / 2 * side + near.block / side;
            const int column = far.block % 2 * side + near.block % side;
            result.add({row * 2 * side + column, far.sign * near.sign});
        }
    }
    return result;
}

template <int levels>
constexpr Scheme<levels> unmarked_scheme() {
    if constexpr (levels == 1) {
        return kOneLevel;
    } else {
        constexpr auto kInner = unmarked_scheme<levels - 1>();
        Scheme<levels> result{};
        std::size_t index = 0;
        for (const Product& outer : kOneLevel) {
            for (const Product& inner : kInner) {
                constexpr int kInnerSide = kSide<levels - 1>;
                result[index++] = {nested(outer.a, inner.a, kInnerSide),
                                   nested(outer.b, inner.b, kInnerSide),
                                   nested(outer.c, inner.c, kInnerSide)};
            }
        }
        return result;
    }
}

template <int levels>
constexpr Scheme<levels> make_scheme() {
    auto scheme = unmarked_scheme<levels>();
    std::array<Term*, kSide<levels> * kSide<levels>> last{};
    for (Product& product : scheme) {
        for (int i = 0; i < product.c.count; ++i) {
            Term& target = product.c[i];
            Term*& before = last[static_cast<std::size_t>(target.block)];
            target.is_first = before == nullptr;
            before = &target;
        }
    }
    for (Term* target : last) target->is_last = true;
    return scheme;
}

template <int levels>
inline constexpr Scheme<levels> kScheme = make_scheme<levels>();

}  // namespace ablation::strassen
