// Memory for packed weights: zeros, aligned for vector loads.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace lowwatt {

class PackedWeights {
public:
    explicit PackedWeights(size_t bytes)
        : bytes_(static_cast<char*>(::operator new[](bytes, std::align_val_t(alignment)))) {
        std::memset(bytes_.get(), 0, bytes);
    }

    const char* at(int64_t byte) const { return bytes_.get() + byte; }

    // The `index`-th value of a word: int8 where a word has four, else int16.
    void put(int64_t word_byte, int64_t index, int values, int16_t value) {
        char* word = bytes_.get() + word_byte;
        if (values == 4) word[index] = char(value);
        else std::memcpy(word + index * 2, &value, sizeof value);
    }

private:
    static constexpr size_t alignment = 64;
    struct Free {
        void operator()(char* p) const { ::operator delete[](p, std::align_val_t(alignment)); }
    };
    std::unique_ptr<char[], Free> bytes_;
};

}  // namespace lowwatt
