// Decides among the candidates of rows by exact scores. Included once per instruction level by kernel files (see
// cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and includes nothing.

// row(i) is where row i of [0, count) lies, found(i, best) takes its winners.
template <int k, class T, class Row, class Found>
void decide(const SearchedCodes<T>& codes, Candidates<Compute<T>, k>* candidates, int64_t count, Row row, Found found) {
  using Best = BestCodes<double, int64_t, k>;
  constexpr int most = 512;  // pairs at a time
  const T *pair_row[most], *pair_code[most];
  int32_t pair_index[most];
  double score[most];
  int64_t first = 0;
  int pairs = 0;
  const auto decide_until = [&](int64_t last) {
    pair_scores_cpu(pair_row, pair_code, pairs, codes.dim, score);
    int p = 0;
    for (; first < last; ++first) {
      if (candidates[first].are_all_codes()) continue;
      Best best;
      best.reset();
      for (const int end = p + candidates[first].count; p < end; ++p) best.offer(score[p], int64_t(pair_index[p]));
      found(first, best);
    }
    pairs = 0;
  };

  int64_t of_all_codes = 0;
  for (int64_t i = 0; i < count; ++i) {
    Candidates<Compute<T>, k>& own = candidates[i];
    if (own.are_all_codes()) {
      ++of_all_codes;
      continue;
    }
    own.drop_losers();
    if (pairs + own.count > most) decide_until(i);
    for (int32_t c = 0; c < own.count; ++c, ++pairs) {
      pair_row[pairs] = row(i);
      pair_code[pairs] = codes.codebook + own.code[c] * codes.dim;
      pair_index[pairs] = own.code[c];
    }
  }
  decide_until(count);
  if (of_all_codes == 0) return;

  const Scratch<int64_t> which(of_all_codes), index(of_all_codes * k);
  const Scratch<const T*> rows(of_all_codes);
  const Scratch<double> scores(of_all_codes * k);
  int64_t listed = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!candidates[i].are_all_codes()) continue;
    which[listed] = i;
    rows[listed++] = row(i);
  }
  exact_search_cpu(codes, rows.data, listed, k, scores.data, index.data);
  for (int64_t i = 0; i < listed; ++i) {
    Best best;
    for (int n = 0; n < k; ++n) {
      best.score[n] = scores[i * k + n];
      best.index[n] = index[i * k + n];
    }
    found(which[i], best);
  }
}
