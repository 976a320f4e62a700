using System;
using System.Runtime.InteropServices;
//@ if lists
using System.Text;
//@ end

namespace @Name@
{
    // The C API, as @header@ describes it.
    public sealed partial class Predictor
    {
        const string Library = "@library@";

        static void Check(int status)
        {
            if (status != 0) throw new PredictorException(Marshal.PtrToStringAnsi(@name@_error_text(status)));
        }

        sealed class Handle : SafeHandle
        {
            Handle() : base(IntPtr.Zero, true) { }

            public override bool IsInvalid => handle == IntPtr.Zero;

            protected override bool ReleaseHandle()
            {
                @name@_destroy(handle);
                return true;
            }
        }
//@ if lists

        static string Label(IntPtr name, int index)
        {
            if (name == IntPtr.Zero) return index.ToString();
            var length = 0;
            while (Marshal.ReadByte(name, length) != 0) ++length;
            var bytes = new byte[length];
            Marshal.Copy(name, bytes, 0, length);
            return Encoding.UTF8.GetString(bytes);
        }
//@ end
//@ if shapes

        [StructLayout(LayoutKind.Sequential)]
        struct RawTensor
        {
            public IntPtr Name, Dtype, Shape;
            public int Rank;
            public UIntPtr Bytes;
            public float Scale;
            public int ZeroPoint;
        }
//@ end
//@ if classes

        [StructLayout(LayoutKind.Sequential)]
        struct RawClass
        {
            public int Index;
            public float Probability;
            public IntPtr Label;
        }
//@ end
//@ if boxes

        [StructLayout(LayoutKind.Sequential)]
        struct RawDetection
        {
            public int Index;
            public float Score, X, Y, Width, Height;
            public IntPtr Label;
        }
//@ end

        @declarations@
    }
}
