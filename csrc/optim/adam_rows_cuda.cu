#include "optim/adam_rows_kernel.cuh"

namespace somvae {

template <class T>
void adam_rows_cuda(const AdamRowsArgs<T>& args, void* stream) {
  const int64_t pieces = adam_pieces(args.width);
  if (args.groups * pieces == 0) return;
  LAUNCH((adam_rows_kernel<T>), blocks_for(args.groups * pieces, 1), kThreads, 0, stream, args, pieces);
}

#define INSTANTIATE(T) template void adam_rows_cuda(const AdamRowsArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
