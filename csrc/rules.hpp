// The optimizer rules: one struct each, holding the arithmetic of ONE element and nothing else. The loop is apply.hpp.
//
// A rule reads its per-step scalars in the order its `scalars` names them; optimizers/rules.py computes them. It
// updates the weight `w` and its slots `s`, in the order in which Keras creates them, from the gradient `g`. V is
// `float` or `Wide` (wide.hpp). Operations stand in the order of Keras 3's `update_step`, but x / y is written
// x reciprocal(y) or x inverse_root(y^2), which round twice, where y is a root: such a y lies far from overflow and
// underflow of 1 / y, so estimates can give 1 / y faster than a divider does. The build forbids contraction into fused
// multiply-adds; beside these two every operation gives the same bits with every instruction set.
//
// `weight_tells`: with a `reciprocal` that is not a number for an infinite argument, a slot that is not finite leaves a
// weight that is not finite either, so that it is enough to look at the weight.
#pragma once

#include "wide.hpp"

namespace elephas {
namespace {

// w' = w - lr g
// Source: Keras 3, optimizers/sgd.py, momentum = 0.
struct Sgd {
    static constexpr const char* name = "sgd";
    static constexpr const char* scalars = "learning_rate";
    static constexpr int slots = 0;
    static constexpr bool weight_tells = true;
    float lr;
    explicit Sgd(const float* p) : lr(p[0]) {}
    template <class V>
    void operator()(V& w, V*, V g) const {
        w = w - g * lr;
    }
};

// m' = mu m - lr g
// w' = w + m'
// Slots: momentum. Source: Polyak 1964, as in Keras 3, optimizers/sgd.py, nesterov = False.
struct Momentum {
    static constexpr const char* name = "momentum";
    static constexpr const char* scalars = "learning_rate momentum";
    static constexpr int slots = 1;
    static constexpr bool weight_tells = true;
    float lr, mu;
    explicit Momentum(const float* p) : lr(p[0]), mu(p[1]) {}
    template <class V>
    void operator()(V& w, V* s, V g) const {
        s[0] = s[0] * mu - g * lr;
        w = w + s[0];
    }
};

// m' = mu m - lr g
// w' = w + mu m' - lr g
// Slots: momentum. Source: Sutskever et al., ICML 2013, as in Keras 3, optimizers/sgd.py, nesterov = True.
struct Nesterov {
    static constexpr const char* name = "nesterov";
    static constexpr const char* scalars = "learning_rate momentum";
    static constexpr int slots = 1;
    static constexpr bool weight_tells = true;
    float lr, mu;
    explicit Nesterov(const float* p) : lr(p[0]), mu(p[1]) {}
    template <class V>
    void operator()(V& w, V* s, V g) const {
        const V step = g * lr;
        s[0] = s[0] * mu - step;
        w = w + (s[0] * mu - step);
    }
};

// v' = rho v + (1 - rho) g^2
// a' = rho a + (1 - rho) g                    (centered; otherwise a' = 0)
// d  = lr g / sqrt(v' - a'^2 + epsilon)       (epsilon is inside the root)
// m' = mu m + d                               (with momentum; otherwise m' = d)
// w' = w - m'
// Slots: velocity, [momentum], [average_gradient]. Source: Hinton, Coursera lecture 6e, 2012; centered: Graves 2013,
// arXiv 1308.0850, section 4.2; as in Keras 3, optimizers/rmsprop.py.
template <bool HasMomentum, bool Centered>
struct Rmsprop {
    static constexpr const char* name = Centered ? (HasMomentum ? "rmsprop_centered_momentum" : "rmsprop_centered")
                                                 : (HasMomentum ? "rmsprop_momentum" : "rmsprop");
    static constexpr const char* scalars =
        HasMomentum ? "learning_rate rho one_minus_rho epsilon momentum" : "learning_rate rho one_minus_rho epsilon";
    static constexpr int slots = 1 + HasMomentum + Centered;
    static constexpr bool weight_tells = true;
    float lr, rho, rest, epsilon, mu;
    explicit Rmsprop(const float* p) : lr(p[0]), rho(p[1]), rest(p[2]), epsilon(p[3]), mu(HasMomentum ? p[4] : 0.0f) {}
    template <class V>
    void operator()(V& w, V* s, V g) const {
        s[0] = rho * s[0] + rest * (g * g);
        V variance = s[0];
        if constexpr (Centered) {
            V& average = s[1 + HasMomentum];
            average = rho * average + rest * g;
            variance = variance - average * average;
        }
        const V step = (lr * g) * inverse_root(variance + epsilon);
        if constexpr (HasMomentum) {
            s[1] = mu * s[1] + step;
            w = w - s[1];
        } else {
            w = w - step;
        }
    }
};

// a' = a + g^2
// w' = w - lr g / sqrt(a' + epsilon)          (epsilon is inside the root)
// Slots: accumulator. Source: Duchi et al., JMLR 12, 2011, figure 1, as in Keras 3, optimizers/adagrad.py.
struct Adagrad {
    static constexpr const char* name = "adagrad";
    static constexpr const char* scalars = "learning_rate epsilon";
    static constexpr int slots = 1;
    static constexpr bool weight_tells = true;
    float lr, epsilon;
    explicit Adagrad(const float* p) : lr(p[0]), epsilon(p[1]) {}
    template <class V>
    void operator()(V& w, V* s, V g) const {
        s[0] = s[0] + g * g;
        w = w - (lr * g) * inverse_root(s[0] + epsilon);
    }
};

// a' = rho a + (1 - rho) g^2
// d  = -g sqrt((u + epsilon) / (a' + epsilon))     (one root of the quotient, where Keras divides two roots)
// u' = rho u + (1 - rho) d^2
// w' = w + lr d
// Slots: accumulated_grad (a), accumulated_delta_var (u). Source: Zeiler 2012, arXiv 1212.5701, algorithm 1, with the
// learning rate of Keras 3, optimizers/adadelta.py.
struct Adadelta {
    static constexpr const char* name = "adadelta";
    static constexpr const char* scalars = "learning_rate rho one_minus_rho epsilon";
    static constexpr int slots = 2;
    static constexpr bool weight_tells = false;
    float lr, rho, rest, epsilon;
    explicit Adadelta(const float* p) : lr(p[0]), rho(p[1]), rest(p[2]), epsilon(p[3]) {}
    template <class V>
    void operator()(V& w, V* s, V g) const {
        s[0] = rho * s[0] + rest * (g * g);
        const V delta = -(root((s[1] + epsilon) / (s[0] + epsilon)) * g);
        s[1] = rho * s[1] + rest * (delta * delta);
        w = w + lr * delta;
    }
};

// m' = m + (1 - beta_1) (g - m)
// v' = v + (1 - beta_2) (g^2 - v)
// h' = max(h, v')                             (amsgrad; otherwise h' = v')
// w' = w - alpha m' / (sqrt(h') + epsilon)    with alpha = lr sqrt(1 - beta_2^t) / (1 - beta_1^t)
// This epsilon is "epsilon hat" of Kingma & Ba, arXiv 1412.6980, the formula before section 2.1, not the epsilon of
// their algorithm 1. Slots: momentum, velocity, [velocity_hat]. amsgrad: Reddi et al., ICLR 2018. As in Keras 3,
// optimizers/adam.py.
template <bool Amsgrad>
struct Adam {
    static constexpr const char* name = Amsgrad ? "adam_amsgrad" : "adam";
    static constexpr const char* scalars = "alpha one_minus_beta_1 one_minus_beta_2 epsilon";
    static constexpr int slots = Amsgrad ? 3 : 2;
    static constexpr bool weight_tells = true;
    float alpha, rest_1, rest_2, epsilon;
    explicit Adam(const float* p) : alpha(p[0]), rest_1(p[1]), rest_2(p[2]), epsilon(p[3]) {}
    template <class V>
    void operator()(V& w, V* s, V g) const {
        s[0] = s[0] + (g - s[0]) * rest_1;
        s[1] = s[1] + (g * g - s[1]) * rest_2;
        V velocity = s[1];
        if constexpr (Amsgrad) {
            s[2] = greater(s[2], velocity);
            velocity = s[2];
        }
        w = w - (s[0] * alpha) * reciprocal(root(velocity) + epsilon);
    }
};

}  // namespace
}  // namespace elephas
