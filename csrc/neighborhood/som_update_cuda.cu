#include "neighborhood/som_update_kernel.cuh"

namespace somvae {

namespace {

template <class Pass>
void launch(const Pass& pass, void* stream) {
  const int64_t tiles =
      pass.batches * ((pass.targets + kSumTile - 1) / kSumTile) * ((pass.width + kSumTile - 1) / kSumTile);
  if (tiles == 0) return;
  LAUNCH((weighted_sum_kernel<Pass>), blocks_for(tiles, 1), kSumThreads, 0, stream, pass);
}

}  // namespace

template <class T, class B>
void som_update_cuda(const SomUpdateArgs<T, B>& args, void* stream) {
  launch(FullPass<T, B>{args, 1, args.targets, args.sources, args.dim}, stream);
}

template <class T, class B>
void som_update_axes_cuda(const SomUpdateAxesArgs<T, B>& args, double* partial, int64_t first_feature, int64_t count,
                          void* stream) {
  const GridAxes& axes = args.axes;
  launch(ColumnPass<T>{args.values + first_feature, args.dim, axes, partial, axes.phases * axes.rows, axes.columns,
                       axes.columns, count},
         stream);
  launch(RowPass<B>{partial, axes, args.finish, first_feature, count, axes.phases, axes.rows_of_phase(0), axes.rows,
                    axes.columns * count},
         stream);
}

#define INSTANTIATE(B)                                                                                      \
  template void som_update_cuda(const SomUpdateArgs<float, B>&, void*);                                     \
  template void som_update_cuda(const SomUpdateArgs<double, B>&, void*);                                    \
  template void som_update_axes_cuda(const SomUpdateAxesArgs<float, B>&, double*, int64_t, int64_t, void*); \
  template void som_update_axes_cuda(const SomUpdateAxesArgs<double, B>&, double*, int64_t, int64_t, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
