// The small parts of a tokenizer.json: normalizer, pre-tokenizer, post-processor, decoder. Each
// reader takes the part's field and throws internal::DataError for what it does not know.
#pragma once

#include <vector>

#include "tokenize/tokenizer_file_field.h"
#include "tokenize/tokenizer_spec.h"

namespace kvs::internal {

// Adds what `field` asks for to the list, in order; a Sequence is flattened.
void ReadNormalizers(const Field& field, std::vector<Normalizer>& normalizers);
void ReadPreTokenizers(const Field& field, std::vector<PreTokenizer>& pre_tokenizers);
// Ids are checked to be below `vocab_size`.
void ReadPostProcessor(const Field& field, uint32_t vocab_size, PostProcessor& post_processor);
Decoder ReadDecoder(const Field& field);

}  // namespace kvs::internal
