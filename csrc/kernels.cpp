// Every kernel, for one instruction set. The build compiles this file once per set, with ELEPHAS_ISA set to its name
// and to the flags that go with it. All definitions but the table have internal linkage.
#include "kernels.hpp"

#include "access.hpp"
#include "apply.hpp"
#include "bfloat16.hpp"
#include "constraints.hpp"
#include "made.hpp"
#include "queue.hpp"
#include "rules.hpp"
#include "slots.hpp"
#include "vectors.hpp"

namespace elephas {
namespace {

constexpr int words(const char* text) {
    int count = 1;
    for (; *text != '\0'; ++text) count += *text == ' ';
    return count;
}

template <class R>
constexpr Rule rule() {
    static_assert(R::slots <= max_slots && words(R::scalars) <= max_scalars);
    return {R::name,
            R::slots,
            R::scalars,
            {apply<R, Racy>, apply<R, Relaxed>, apply<R, CompareExchange>},
            apply<R, Racy, Bfloat16Slots>,
            apply_queue<R>,
            {apply_made<R, FloatSlots>, apply_made<R, Bfloat16Slots>}};
}

}  // namespace

extern const Kernels ELEPHAS_ISA;
const Kernels ELEPHAS_ISA = {
    {
        rule<Sgd>(),
        rule<Momentum>(),
        rule<Nesterov>(),
        rule<Rmsprop<false, false>>(),
        rule<Rmsprop<true, false>>(),
        rule<Rmsprop<false, true>>(),
        rule<Rmsprop<true, true>>(),
        rule<Adagrad>(),
        rule<Adadelta>(),
        rule<Adam<false>>(),
        rule<Adam<true>>(),
    },
    count_nonfinite,
    sum_of_squares,
    weighted_mean,
    subtract,
    {blend<Racy>, blend<Relaxed>, blend<CompareExchange>},
    non_negative,
    bound_norms,
    encode_bfloat16,
    decode_bfloat16,
};

}  // namespace elephas
