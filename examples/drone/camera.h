// Cameras of Video4Linux: USB cameras and all others that send YUYV or Motion JPEG.
#pragma once

#include <memory>
#include <string>

#include "frames.h"

// The camera at a device such as /dev/video0. It sends frames of the size asked for or the nearest that it has. Each
// frame is the newest: where the program is slower than the camera, those in between are left out. Throws Failure.
std::unique_ptr<Source> open_camera(const std::string& device, const CameraOptions& options);
